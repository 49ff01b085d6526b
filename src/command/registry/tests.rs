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
    use crate::command::{Args, run};
    use crate::config::Config;
    use crate::session::{Client, Session};

    async fn later(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
        tokio::task::yield_now().await;
        ctx.session.namespace = args.text(0)?.to_owned();
        Ok(Reply::Ok)
    }

    async fn broken(_: &mut Context<'_>, _: Args) -> Result<Reply> {
        tokio::task::yield_now().await;
        panic!("on purpose")
    }

    /// Runs a handler that is in no table.
    async fn check(handler: Handler) -> (Ended, Session) {
        let services = Arc::new(Services::new(Arc::new(Config::default()), Arc::new(SystemClock)));
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let client = Arc::new(Client::new(1, address, address));
        let mut session = Session::new(client, Arc::clone(&services.config));
        let mut ctx = Context { session: &mut session, services: &services };
        let Handler::Async(run) = handler else { unreachable!("only these await") };
        let (_, spec) = table().find(b"PING").unwrap();
        let future = run(&mut ctx, Args::new(Words::from_words(["X", "a.b"]), 1));
        let ended = Running { future, spec, stats: None, started: Instant::now() }.await;
        (ended, session)
    }

    #[tokio::test]
    async fn a_handler_may_await_and_change_its_session() {
        let (ended, session) = check(run!(later)).await;
        assert!(matches!(ended, Ended::Replied(Reply::Ok)));
        assert_eq!(session.namespace, "a.b");
    }

    #[tokio::test]
    async fn a_panic_after_an_await_becomes_an_error() {
        let (ended, _) = check(run!(broken)).await;
        assert!(matches!(ended, Ended::Panicked(Reply::Error(text)) if text.starts_with("ERR ")));
    }
}
