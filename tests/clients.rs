//! Client programs and libraries that people use, against a real node.
//!
//! `.ci/run` installs redis-cli, redis-py, ioredis and node-redis and says in
//! variables where they are. What is not there is skipped, and says so.

#[path = "support/node.rs"]
mod node;
#[path = "support/report.rs"]
mod report;

use std::path::Path;
use std::process::Command;

use node::{StoreKind, TestNode};

/// Runs a program to its end; its output, or None when there is no such program.
#[track_caller]
fn run(command: &mut Command) -> Option<String> {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{command:?}: {error}"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Some(text(&output.stdout))
}

#[test]
fn the_demo_tells_its_story_to_the_end() {
    let story = run(Command::new(env!("CARGO_BIN_EXE_lethe")).arg("demo")).expect("our program");
    for line in [
        "1707 documents in 18 commands",
        "(error) BUCKETBEINGREMOVED Bucket 'quakes' is being removed",
        "1707 documents, each as it was before",
        "all bytes are given back",
        "(error) NOSUCHBUCKET No such bucket: 'quakes'",
        "keys of the bucket in the store: 0",
    ] {
        assert!(story.contains(line), "{line}\n{story}");
    }
    assert!(!story.contains('\x1b'), "colours are for terminals only");
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

#[test]
fn redis_cli_tells_the_story_of_a_bucket() {
    let node = TestNode::start(StoreKind::Memory);
    let port = node.address().port().to_string();
    for version in ["-2", "-3"] {
        let call =
            |argv: &[&str]| run(Command::new("redis-cli").args([version, "-p", &port]).args(argv));
        let bucket = format!("cli{version}");
        let Some(created) = call(&["BUCKET.CREATE", &bucket]) else {
            report::skipped("redis-cli against a node: not installed");
            return;
        };
        assert_eq!(created.trim_end(), "OK");
        let document = r#"{"_id": "65f0c0ffee0000000000abcd", "name": "Ada"}"#;
        let inserted = call(&["BUCKET.INSERT", &bucket, "DOCS", document]);
        assert_eq!(inserted.as_deref().map(str::trim_end), Some("65f0c0ffee0000000000abcd"));
        let found = call(&["BUCKET.QUERY", &bucket, "{}"]).unwrap_or_default();
        assert!(found.contains(r#""name":"Ada""#), "{found}");
        assert_eq!(call(&["BUCKET.REMOVE", &bucket]).as_deref().map(str::trim_end), Some("OK"));
        let refused = call(&["BUCKET.QUERY", &bucket, "{}"]).unwrap_or_default();
        assert!(refused.starts_with("BUCKETBEINGREMOVED"), "{refused}");
    }
}

/// The line of the tutorial that fills its bucket, in a real shell.
#[test]
fn the_tutorials_shell_line_fills_its_bucket() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/tutorial.md")).expect("the tutorial");
    let line = page.lines().find(|line| line.contains("xargs")).expect("a line with xargs");
    let node = TestNode::start(StoreKind::Memory);
    let port = node.address().port().to_string();
    let call = |argv: &[&str]| run(Command::new("redis-cli").args(["-p", &port]).args(argv));
    let Some(created) = call(&["BUCKET.CREATE", "quakes"]) else {
        report::skipped("the shell line of the tutorial: redis-cli is not installed");
        return;
    };
    assert_eq!(created.trim_end(), "OK");
    let line = line.replace("-p 5484", &format!("-p {port}"));
    assert!(line.contains(&port), "{line}");
    run(Command::new("sh").current_dir(root).args(["-c", &line])).expect("a shell");
    let counted = call(&["BUCKET.COUNT", "quakes"]);
    assert_eq!(counted.as_deref().map(str::trim_end), Some("1707"));
}

/// What redis-cli asks for before it shows hints to a person.
#[test]
fn redis_cli_finds_the_documentation_of_every_command() {
    let node = TestNode::start(StoreKind::Memory);
    let port = node.address().port().to_string();
    let Some(docs) = run(Command::new("redis-cli").args(["-3", "-p", &port, "COMMAND", "DOCS"]))
    else {
        report::skipped("the hints of redis-cli: not installed");
        return;
    };
    for spec in lethe::command::registry::table().commands() {
        assert!(docs.contains(&spec.name.to_ascii_lowercase()), "{} is missing", spec.name);
        assert!(docs.contains(spec.summary), "{}: no summary", spec.name);
    }
}

#[test]
fn redis_py_works_in_both_protocols() {
    let Ok(python) = std::env::var("TEST_PYTHON") else {
        report::skipped("redis-py against a node: TEST_PYTHON is not set");
        return;
    };
    let node = TestNode::start(StoreKind::Memory);
    let port = node.address().port().to_string();
    let said = run(Command::new(python).arg(script("redis_py.py")).arg(port));
    assert_eq!(said.as_deref(), Some("ok\n"));
}

#[test]
fn ioredis_and_node_redis_work() {
    let Ok(modules) = std::env::var("TEST_NODE_MODULES") else {
        report::skipped("ioredis and node-redis against a node: TEST_NODE_MODULES is not set");
        return;
    };
    let node = TestNode::start(StoreKind::Memory);
    let port = node.address().port().to_string();
    let said = run(Command::new("node").arg(script("node.mjs")).args([&port, &modules]));
    assert_eq!(said.as_deref(), Some("ok\n"));
}

#[test]
fn the_rust_client_pipelines_and_reads_maps() {
    let node = TestNode::start(StoreKind::Memory);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let url = format!("redis://{}/?protocol=resp3", node.address());
        let client = redis::Client::open(url).expect("an address");
        let mut link = client.get_multiplexed_async_connection().await.expect("a connection");
        let created: String =
            redis::cmd("BUCKET.CREATE").arg("rust").query_async(&mut link).await.expect("created");
        assert_eq!(created, "OK");
        let mut pipeline = redis::pipe();
        for n in 0..100 {
            pipeline.cmd("BUCKET.INSERT").arg("rust").arg("DOCS").arg(format!("{{\"n\": {n}}}"));
        }
        let ids: Vec<Vec<String>> = pipeline.query_async(&mut link).await.expect("inserted");
        assert_eq!(ids.len(), 100);
        let reply: std::collections::HashMap<String, redis::Value> = redis::cmd("BUCKET.QUERY")
            .arg("rust")
            .arg(r#"{"n": {"$lt": 7}}"#)
            .query_async(&mut link)
            .await
            .expect("a map");
        let Some(redis::Value::Array(entries)) = reply.get("entries") else {
            panic!("no entries: {reply:?}");
        };
        assert_eq!(entries.len(), 7);
    });
}
