use super::*;
use crate::command::{Argument, Kind};

#[test]
fn names_are_unique_and_sorted() {
    let names: Vec<&str> = table().specs().iter().map(|spec| spec.name).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}

#[test]
fn every_entry_makes_sense() {
    for spec in table().specs() {
        let name = spec.name;
        assert_eq!(name, name.to_ascii_uppercase(), "{name}");
        assert!(name.len() <= NAME_BYTES_MAX, "{name}");
        let words = i8::try_from(name.split(' ').count()).unwrap();
        assert!(words <= 2, "{name}: a subcommand has no subcommands");
        assert!(spec.arity.abs() >= words, "{name}: the arity counts the name");
        assert!(
            spec.summary.ends_with('.') && !spec.summary.contains(". "),
            "{name}: one sentence"
        );
        assert!(!spec.complexity.is_empty(), "{name}");
        check_arguments(name, spec.arguments);
        if let Some((container, _)) = spec.subcommand() {
            let (_, container) = table().find(container.as_bytes()).unwrap();
            assert!(container.handler.unknown_subcommand().is_some(), "{name}");
        }
        if spec.handler.unknown_subcommand().is_some() {
            assert!(table().subcommands(spec).next().is_some(), "{name}");
        }
    }
}

fn check_arguments(name: &str, arguments: &[Argument]) {
    for argument in arguments {
        let inner = argument.name;
        assert_eq!(inner, inner.to_ascii_lowercase(), "{name}");
        let has_parts = matches!(argument.kind, Kind::OneOf | Kind::Block);
        assert_eq!(has_parts, !argument.parts.is_empty(), "{name}: {inner}");
        assert!(argument.kind != Kind::PureToken || argument.token.is_some(), "{name}: {inner}");
        check_arguments(name, argument.parts);
    }
}

#[test]
fn a_name_is_found_in_any_case() {
    assert_eq!(table().find(b"pInG").map(|(_, spec)| spec.name), Some("PING"));
    assert!(table().find(&[b'x'; 1000]).is_none());
    assert!(table().find(b"\xff\xfe").is_none());
    assert!(table().find(b"").is_none());
}

#[test]
fn the_fixed_arguments_of_a_command_fit_its_arity() {
    for spec in table().specs() {
        if spec.handler.unknown_subcommand().is_some() || spec.has(flags::REFUSED) {
            continue;
        }
        let name_words = spec.name.split(' ').count();
        let fixed = name_words + least(spec.arguments);
        let arity = usize::from(spec.arity.unsigned_abs());
        // A command with a message of its own for missing arguments takes fewer.
        assert!(arity <= fixed, "{}: the arguments say {fixed}, the arity {arity}", spec.name);
        if spec.arity > 0 {
            assert_eq!(arity, fixed, "{}", spec.name);
            let grows =
                spec.arguments.iter().any(|argument| argument.optional || argument.multiple);
            assert!(!grows, "{}: has optional arguments", spec.name);
        }
    }
}

/// Words that a call with all optional arguments left out has.
fn least(arguments: &[Argument]) -> usize {
    arguments.iter().filter(|argument| !argument.optional).map(words).sum()
}

fn words(argument: &Argument) -> usize {
    let own = match argument.kind {
        Kind::PureToken => return 1,
        Kind::OneOf => argument.parts.iter().map(words).min().unwrap_or(0),
        Kind::Block => least(argument.parts),
        Kind::String | Kind::Integer | Kind::Pattern => 1,
    };
    own + usize::from(argument.token.is_some())
}

mod running {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::cluster::mutation::Mutations;
    use crate::cluster::{Cluster, ClusterOptions};
    use crate::codec::duration::Retention;
    use crate::config::Config;
    use crate::metadata::catalog::CatalogOptions;
    use crate::metadata::policy::Settings;
    use crate::metadata::{Catalog, OpenTransaction, Path};
    use crate::session::{Client, Session};
    use crate::store::Store;

    struct Caller {
        services: Arc<Services>,
        session: Session,
    }

    impl Caller {
        /// As BEGIN does, over a store of its own.
        async fn begin(&mut self) {
            let store = Store::memory();
            let options = ClusterOptions::new("a");
            let cluster = Cluster::join(store.clone(), Arc::new(SystemClock), options).await;
            let options = CatalogOptions {
                default_namespace: Path::parse(b"global").unwrap(),
                handles_max: 1,
                changes_retention_ms: 1_000,
                settings: Settings {
                    retention: Retention::Forever,
                    tombstone_retention: Retention::Forever,
                },
                mutations: Mutations::default(),
            };
            let catalog = Catalog::open(store, cluster.unwrap(), options).await.unwrap();
            self.session.transaction = Some(OpenTransaction::begin(&catalog));
        }

        fn new() -> Self {
            let services =
                Arc::new(Services::new(Arc::new(Config::default()), Arc::new(SystemClock)));
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
            let client = Arc::new(Client::new(1, address, address));
            let session = Session::new(client, Arc::clone(&services.config));
            Self { services, session }
        }

        async fn call<const N: usize>(&mut self, words: [&str; N]) -> Reply {
            let mut ctx = Context { session: &mut self.session, services: &self.services };
            execute(&mut ctx, Words::from_words(words)).await
        }

        async fn check_error<const N: usize>(&mut self, words: [&str; N], expected: &str) {
            assert_eq!(self.call(words).await, Reply::Error(expected.to_owned()));
        }

        /// Calls, rejected calls and failed calls.
        fn counted(&self, name: &str) -> (u64, u64, u64) {
            let (index, _) = table().find(name.as_bytes()).unwrap();
            let counts = self.services.stats.command(index).unwrap().read();
            let (calls, rejected, failed) = (counts.calls(), counts.rejected, counts.failed);
            (calls, rejected, failed)
        }
    }

    #[tokio::test]
    async fn a_handler_may_answer_at_once_or_later() {
        let mut caller = Caller::new();
        assert_eq!(caller.call(["ping"]).await, Reply::Simple("PONG".into()));
        assert_eq!(caller.call(["test.later", "x"]).await, Reply::Bulk("x".into()));
        assert!(!caller.session.is_closing());
    }

    #[tokio::test]
    async fn a_panic_becomes_an_error_and_ends_the_connection() {
        for command in ["TEST.PANIC", "TEST.PANIC-LATER"] {
            let mut caller = Caller::new();
            let reply = caller.call([command, "x"]).await;
            assert!(matches!(reply, Reply::Error(text) if text.starts_with("ERR internal error")));
            assert!(caller.session.is_closing());
            assert_eq!(caller.counted(command), (1, 0, 1));
        }
    }

    #[tokio::test]
    async fn checks_come_in_order_before_the_handler() {
        let mut caller = Caller::new();
        caller.services.stop();
        caller.begin().await;
        caller
            .check_error(
                ["nope", "a", "b c"],
                "ERR unknown command 'nope', with args beginning with: 'a' 'b c' ",
            )
            .await;
        caller
            .check_error(["CLIENT", "nope"], "ERR unknown subcommand: 'nope'. Try CLIENT HELP.")
            .await;
        caller
            .check_error(
                ["client", "setname"],
                "ERR wrong number of arguments for 'CLIENT|SETNAME' command",
            )
            .await;
        caller.check_error(["client"], "ERR wrong number of arguments for 'CLIENT' command").await;
        caller.check_error(["test.alone", "x"], "ERR server is shutting down").await;
        assert_eq!(caller.counted("TEST.ALONE"), (0, 1, 0));
    }

    #[tokio::test]
    async fn a_command_that_commits_on_its_own_is_refused_within_a_transaction() {
        let mut caller = Caller::new();
        assert_eq!(caller.call(["TEST.ALONE", "x"]).await, Reply::Ok);
        caller.begin().await;
        caller
            .check_error(["TEST.ALONE", "x"], "ERR TEST.ALONE is not allowed within a transaction")
            .await;
        assert_eq!(caller.counted("TEST.ALONE"), (1, 1, 0));
    }

    #[tokio::test]
    async fn an_unknown_command_is_repeated_only_in_part() {
        let mut caller = Caller::new();
        let (name, long) = ("n".repeat(500), "a".repeat(100));
        let Reply::Error(text) = caller.call([&name, &long, &long, &long]).await else {
            panic!("it is refused")
        };
        let expected = format!(
            "ERR unknown command '{}', with args beginning with: '{long}' '{}' ",
            "n".repeat(128),
            "a".repeat(25)
        );
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn an_error_does_not_repeat_all_that_was_sent() {
        let mut caller = Caller::new();
        let long = "ä".repeat(100_000);
        let Reply::Error(text) = caller.call(["CLIENT", &long]).await else {
            panic!("it is refused")
        };
        assert!(text.len() < 5_000 && text.ends_with("ä..."), "{}", text.len());
    }

    #[tokio::test]
    async fn a_subcommand_does_not_hide_in_the_name() {
        let mut caller = Caller::new();
        for name in ["CLIENT ID", "client|id"] {
            let reply = caller.call([name]).await;
            assert!(
                matches!(&reply, Reply::Error(text) if text.starts_with("ERR unknown command")),
                "{reply:?}"
            );
        }
    }
}
