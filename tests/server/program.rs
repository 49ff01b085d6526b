//! The program as a process: signals, wrong settings, its log.

use super::*;

/// The program itself, on a store in memory.
struct Program {
    child: std::process::Child,
    address: SocketAddr,
}

impl Program {
    fn start() -> Self {
        Self::with(&[], std::process::Stdio::inherit())
    }

    fn with(variables: &[(&str, &str)], log: std::process::Stdio) -> Self {
        use std::io::BufRead;
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_lethe"))
            .args(["--store", "memory", "--port", "0"])
            .envs(variables.iter().copied())
            .env_remove("LETHE_LOG")
            .stderr(log)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            line.unwrap().split_once(" -p ").map(|(_, port)| port.parse::<u16>().unwrap())
        });
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port.unwrap())) }
    }

    /// Sends a signal and gives the status with which the program ends.
    fn signal(mut self, name: &str) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

#[test]
fn sigterm_and_sigint_end_the_program_in_good_order() {
    for name in ["-TERM", "-INT"] {
        let program = Program::start();
        let mut client = Raw::connect(program.address);
        client.check("PING", "+PONG\r\n");
        let status = program.signal(name);
        assert!(status.success(), "{name}: {status}");
        assert_eq!(client.rest(), "");
    }
}

#[test]
fn a_wrong_setting_stops_the_start_and_is_named() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lethe"))
        .env("LETHE_SERVER_MAX_CLIENTS", "many")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("server.max_clients") && message.contains("many"), "{message}");
}

#[test]
fn the_log_says_which_request_and_removal_and_no_secrets() {
    let variables = [
        ("LETHE_LOG_FORMAT", "json"),
        ("LETHE_LOG_FILTER", "info"),
        ("LETHE_SLOW_LOG_THRESHOLD", "0s"),
    ];
    let mut program = Program::with(&variables, std::process::Stdio::piped());
    let mut log = program.child.stderr.take().unwrap();
    let mut client = Raw::connect(program.address);
    client.check("BUCKET.CREATE users", "+OK\r\n");
    client.send("BUCKET.INSERT users DOCS '{\"word\":\"vertraulich\"}'\r\n");
    assert_eq!((client.line(), client.bulk().len()), ("*1".to_owned(), 24));
    client.send("BUCKET.QUERY users '{\"word\":\"vertraulich\"}'\r\nAUTH ada geheim\r\n");
    client.send("BUCKET.REMOVE users\r\n");
    client.send("QUIT\r\n");
    client.rest();
    assert!(program.signal("-TERM").success());
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert!(!text.contains("geheim") && !text.contains("vertraulich"), "{text}");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let slow = |command: &str| {
        let found = lines
            .iter()
            .find(|line| line["message"] == "slow command" && line["command"] == command);
        found.unwrap_or_else(|| panic!("no {command} in {text}"))
    };
    let removed = slow("BUCKET.REMOVE");
    let span = &removed["span"];
    assert_eq!((&span["request"], &removed["request"]), (&"1-5".into(), &"1-5".into()));
    assert_eq!((&span["namespace"], &span["bucket"]), (&"global".into(), &"users".into()));
    assert!(span["removal"].as_str().is_some_and(|id| id.starts_with("r_")), "{removed}");
    assert_eq!(slow("BUCKET.QUERY")["span"]["request"], "1-3");
    assert!(lines.iter().any(|line| line["message"] == "joined the cluster"), "{text}");
}

#[test]
fn a_filter_of_the_log_that_cannot_be_read_stops_the_start_and_is_named() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lethe"))
        .env_remove("LETHE_LOG")
        .env("LETHE_LOG_FILTER", "lethe=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("log.filter") && message.contains("loud"), "{message}");
}
