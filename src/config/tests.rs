use std::io::Write;
use std::time::Duration;

use super::*;

fn from_text(text: &str) -> Result<Config, ConfigError> {
    from(text, &[], &[])
}

fn from(
    text: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, String)],
) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Some(file.path()), variables, flags)
}

#[test]
fn a_file_that_is_no_toml_or_has_an_unknown_key_is_named() {
    for text in ["[server", "[server]\ncolour = 1", "[server]\nport = []"] {
        let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let error = load(Some(file.path()), [], &[]).unwrap_err().to_string();
        let name = file.path().file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name), "{text}: {error}");
    }
}

#[test]
fn an_error_repeats_no_password() {
    for text in [
        "[auth]\nusers = [\"admin on >geheim ~* +@all]",
        "[auth]\nusers = \"admin on >geheim ~* +@all\"",
        "[auth]\nusers = [\"admin on >geheim ~* +@all\", 7]",
        "[auth]\nusers = { admin = \">geheim\" }",
        "[auth]\nuser = [\"admin on >geheim\"]",
        "[auth]\nusers = [\"\"\"\nadmin on\n >geheim ~* +@all]",
        "auth = \"admin on >geheim ~* +@all\"",
        "[auth]\nusers_file = [\">geheim\"]",
    ] {
        let told = match from_text(text) {
            Ok(config) => format!("{config:?}"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("line") || error.contains("auth"), "{text}: {error}");
                format!("{error} {error:?}")
            }
        };
        assert!(!told.contains("geheim"), "{text}: {told}");
    }
}

/// The error has to name all of these.
fn check_refused(text: &str, named: &[&str]) {
    let error = from_text(text).unwrap_err().to_string();
    for part in named {
        assert!(error.contains(part), "{error:?} does not name {part:?}");
    }
}

#[test]
fn the_defaults_are_valid() {
    let config = Config::default();
    assert_eq!(config.server.listen, [SocketAddr::from(([127, 0, 0, 1], 5484))]);
    assert_eq!(config.removal.retention, Retention::For(Duration::from_hours(7 * 24)));
    assert_eq!(load(None, [], &[]).unwrap(), config);
}

#[test]
fn the_file_holds_every_setting_at_its_default() {
    let text = include_str!("../../config/lethe.toml");
    assert_eq!(from_text(text).unwrap(), Config::default());
    for (key, _) in &Config::default().entries {
        let name = key.rsplit('.').next().unwrap();
        let found = text.lines().any(|line| line.starts_with(&format!("{name} = ")));
        assert!(found, "{key} is missing in config/lethe.toml");
    }
    // Each section is there once, so a name found above is in its own section or the comparison fails.
    let settings = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
    assert_eq!(settings.count(), Config::default().entries.len());
}

#[test]
fn later_sources_win() {
    let text = "[server]\nport = 1\nmax_clients = 1\nbacklog = 1";
    let variables = [("LETHE_SERVER_PORT", "2"), ("LETHE_SERVER_MAX_CLIENTS", "2")];
    let config = from(text, &variables, &[("server.port", "3".to_owned())]).unwrap();
    assert_eq!(config.server.listen[0].port(), 3);
    assert_eq!(config.server.max_clients, 2);
    assert_eq!(config.server.backlog, 1);
    let entry = config.entries.iter().find(|(key, _)| key == "server.port");
    assert_eq!(entry.map(|(_, value)| value.as_str()), Some("3"));
}

#[test]
fn every_setting_has_a_variable() {
    for (key, value) in &Config::default().entries {
        let name = format!("LETHE_{}", key.replace('.', "_").to_uppercase());
        let config = from("", &[(&name, &value.replace(' ', ","))], &[]);
        assert_eq!(config.unwrap(), Config::default(), "{name}");
    }
}

#[test]
fn several_addresses_can_be_bound() {
    let config = from("", &[("LETHE_SERVER_BIND", "127.0.0.1, ::1")], &[]).unwrap();
    assert_eq!(config.server.listen.len(), 2);
    assert!(config.server.listen[1].is_ipv6());
}

#[test]
fn http_can_be_switched_off() {
    assert!(from_text("[http]\nbind = []").unwrap().http.listen.is_empty());
    assert!(from("", &[("LETHE_HTTP_BIND", "")], &[]).unwrap().http.listen.is_empty());
}

#[test]
fn other_variables_are_left_alone_and_misspelt_ones_refused() {
    from("", &[("LETHE_LOG", "debug"), ("LETHE_CONFIG", "x"), ("PATH", "y")], &[]).unwrap();
    let error = from("", &[("LETHE_SERVER_PROT", "1")], &[]).unwrap_err();
    assert!(error.to_string().contains("LETHE_SERVER_PROT"), "{error}");
}

#[test]
fn an_error_names_the_key_the_value_and_what_is_allowed() {
    check_refused("store = \"disk\"", &["store", "disk", "embedded, memory or foundationdb"]);
    check_refused("durability = \"no\"", &["durability", "no", "sync or interval"]);
    check_refused("[foundationdb]\nkey_prefix = \"\"", &["foundationdb.key_prefix", "1 to 64"]);
    check_refused("[foundationdb]\ntimeout = \"1ms\"", &["foundationdb.timeout", "1s to 60s"]);
    check_refused("[server]\nadvertise = \"db1\"", &["server.advertise", "db1", "host:port"]);
    check_refused("[server]\nbind = [\"here\"]", &["server.bind", "here", "127.0.0.1"]);
    check_refused("[server]\nbind = []", &["server.bind", "at least one"]);
    check_refused("[audit]\nretention = \"0s\"", &["audit.retention", "0s", "1h"]);
    check_refused("[server]\nmax_clients = 0", &["server.max_clients", "0", "1 to"]);
    check_refused("[server]\nidle_timeout = \"0s\"", &["server.idle_timeout", "0s", "never"]);
    check_refused("[server]\nshutdown_timeout = \"-1\"", &["server.shutdown_timeout", "-1", "45s"]);
    check_refused("[http]\nbind = [\"here\"]", &["http.bind", "here", "127.0.0.1"]);
    check_refused("[http]\nmax_connections = 0", &["http.max_connections", "0", "1 to"]);
    check_refused("[log]\nformat = \"xml\"", &["log.format", "xml", "text or json"]);
    check_refused("[slow_log]\nthreshold = \"x\"", &["slow_log.threshold", "x", "never"]);
    check_refused("[removal]\nretention = \"soon\"", &["removal.retention", "soon", "forever"]);
    check_refused(
        "[session]\nreply_type = \"xml\"",
        &["session.reply_type", "xml", "json or bson"],
    );
    check_refused("[session]\nlimit = 0", &["session.limit", "0", "1 to"]);
    check_refused("[cluster]\nshards = 0", &["cluster.shards", "0", "1 to"]);
    check_refused("[cluster]\nsilent_after = \"2s\"", &["cluster.silent_after", "2s", "three"]);
    check_refused("[cluster]\ndrain_limit = \"1s\"", &["cluster.drain_limit", "1s", "drain_grace"]);
}

#[test]
fn tls_takes_files_and_what_would_not_be_obeyed_is_refused() {
    let files = "[tls]\ncert_file = \"/c\"\nkey_file = \"/k\"\n";
    let config = from_text(&format!("{files}[server]\nbind = []\ntls_bind = [\"::1\"]")).unwrap();
    assert!(config.server.listen.is_empty());
    assert_eq!(config.server.listen_tls[0].to_string(), "[::1]:6484");
    assert_eq!(config.tls.unwrap().client_ca_file, None);
    let config = from(files, &[("LETHE_HTTP_TLS", "true")], &[]).unwrap();
    assert!(config.http.tls && config.server.listen_tls.is_empty());
    assert!(Config::default().tls.is_none());

    check_refused("[server]\nbind = []", &["server.bind", "server.tls_bind"]);
    check_refused("[server]\ntls_bind = [\"::1\"]", &["tls.cert_file", "server.tls_bind"]);
    check_refused("[http]\ntls = true\n[tls]\ncert_file = \"/c\"", &["tls.key_file"]);
    check_refused(files, &["tls.cert_file", "/c", "nothing uses it"]);
    let asking = "tls_client_certificates = \"required\"\n";
    check_refused(
        &format!("[server]\n{asking}"),
        &["server.tls_client_certificates", "required", "no TLS"],
    );
    check_refused(&format!("[http]\n{asking}"), &["http.tls_client_certificates"]);
    let http = format!("{files}[http]\ntls = true\n");
    check_refused(&format!("{http}{asking}"), &["tls.client_ca_file", "authorities"]);
    check_refused(
        &http.replace("/k\"", "/k\"\nclient_ca_file = \"/a\""),
        &["tls.client_ca_file", "/a"],
    );
    check_refused(
        "[server]\ntls_client_certificates = \"yes\"",
        &["yes", "off, optional or required"],
    );
    check_refused("[tls]\nhandshake_timeout = \"2m\"", &["tls.handshake_timeout", "100ms to 60s"]);
}

#[test]
fn unknown_keys_and_wrong_types_are_refused_by_name() {
    check_refused("[server]\nprot = 1", &["prot"]);
    check_refused("[sever]\nport = 1", &["sever"]);
    check_refused("[server]\nport = 70000", &["server.port", "70000"]);
    check_refused("[server]\nport = \"abc\"", &["server.port", "abc"]);
    check_refused("[server]\nport = -1", &["server.port", "-1"]);
    check_refused("[server", &["1"]);
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Some("/no/such/lethe.toml".as_ref()), [], &[]).unwrap_err();
    assert!(error.to_string().contains("/no/such/lethe.toml"), "{error}");
}
