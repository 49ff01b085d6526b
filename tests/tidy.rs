//! Checks of the source and the documents themselves: what a compiler does not see.
//!
//! Each rule is one test, and its failure lists every place with what to do
//! about it. The rules are those of CONTRIBUTING.md.

#[path = "support/pages.rs"]
mod pages;
#[path = "support/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lethe::command::registry::table;
use source::Source;

/// Top to bottom. A module may import only from lines below its own.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["demo", "replicate"],
    &["node"],
    &["server", "http", "worker"],
    &["command"],
    &["session"],
    &["update"],
    &["query", "lifecycle", "check"],
    &["document"],
    &["index"],
    &["metadata"],
    &["access"],
    &["cluster"],
    &["error"],
    &["store"],
    // A setting such as a retention is written as the commands write it, so `config` stands on `codec`.
    &["client"],
    &["tls"],
    &["resp", "config"],
    &["value"],
    &["codec", "clock", "meter"],
];

/// The program and the list of modules stand above all layers.
const ABOVE_ALL: &[&str] = &["lib", "main"];

const FILE_LINES_MAX: usize = 600;

/// Files that are longer for a reason, with their own bound: (path below src/, lines, why).
const LONGER_FILES: &[(&str, usize, &str)] =
    &[("codec/keys.rs", 800, "one short function per key, in the order of docs/keyspace.md")];

/// Words that say that something is not finished. In pieces, so that this file does not find itself.
const UNFINISHED: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("HA", "CK:")];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    Source::read_all(&root().join("src"))
}

/// Fails with the whole list, so that one run shows everything there is to mend.
#[track_caller]
fn expect_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}\n  {}", found.join("\n  "));
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn wrong_imports(source: &Source) -> Vec<String> {
    let module = source.top_module();
    if ABOVE_ALL.contains(&module) {
        return Vec::new();
    }
    let Some(own) = layer_of(module) else {
        return vec![format!("src/{}: module `{module}` has no layer", source.path)];
    };
    let mut wrong = Vec::new();
    for (target, line) in source.crate_paths() {
        let allowed = target == module
            // `crate::Error` and `crate::Result` are the two names that lib.rs offers again.
            || (target == "Error" || target == "Result") && Some(own) < layer_of("error")
            || layer_of(&target).is_some_and(|other| own < other);
        if !allowed {
            wrong.push(format!("src/{}:{line}: `{module}` uses `{target}`", source.path));
        }
    }
    wrong
}

#[test]
fn imports_point_down_the_layers() {
    let wrong: Vec<String> = sources().iter().flat_map(wrong_imports).collect();
    expect_none(
        "imports point down only, never sideways and never up: pass a trait or a channel that `node` wires",
        &wrong,
    );
}

#[test]
fn an_import_that_points_up_or_sideways_is_found_in_every_form() {
    let check = |text: &str| {
        wrong_imports(&Source::parse("store/mod.rs".to_owned(), text.to_owned())).len()
    };
    assert_eq!(check("use crate::codec::Key; // use crate::server::X"), 0);
    assert_eq!(check("use crate::server::Listener;"), 1);
    assert_eq!(check("use crate::{codec::{a, b}, server, error::Error};"), 2);
    assert_eq!(check("fn f() -> crate::error::Error { g(\"crate::node::x\") }"), 1);
    assert_eq!(check("fn f() { info!(x = crate::node::X) }"), 1);
    assert_eq!(check("#[cfg(test)] mod tests { use crate::session::Session; }"), 1);
}

#[test]
fn no_path_climbs_to_the_crate_root_by_super() {
    let mut wrong = Vec::new();
    for source in sources() {
        if ABOVE_ALL.contains(&source.top_module()) {
            continue;
        }
        let mut chain = 0;
        let mut at = 0;
        while let Some(token) = source.tokens.get(at) {
            if token.text == "super" {
                chain += 1;
                // One more level is free in an inline test module.
                let climbs = source.depth() + usize::from(token.test);
                if chain >= climbs {
                    wrong.push(format!("src/{}:{}", source.path, token.line));
                }
            } else if token.text != ":" {
                chain = 0;
            }
            at += 1;
        }
    }
    expect_none("write `crate::module` so that the layers can be seen", &wrong);
}

#[test]
fn every_module_opens_with_a_header() {
    let missing: Vec<String> = sources()
        .iter()
        .filter(|source| source.path.ends_with("mod.rs") || !source.path.contains('/'))
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("src/{}", source.path))
        .collect();
    expect_none(
        "open the file with `//!`: what lives here, what does not, the invariants",
        &missing,
    );
}

#[test]
fn files_stay_readable_in_length() {
    let mut long = Vec::new();
    for source in sources().iter().filter(|source| !source.test) {
        let lines = source.code_lines();
        let bound = LONGER_FILES
            .iter()
            .find(|(path, _, _)| *path == source.path)
            .map_or(FILE_LINES_MAX, |(_, bound, _)| *bound);
        if lines > bound {
            long.push(format!("src/{}: {lines} lines without its tests", source.path));
        }
    }
    for file in ["tests", "benches"].iter().flat_map(|folder| text_files(&root().join(folder))) {
        if file.extension().is_some_and(|extension| extension == "rs") {
            let lines = std::fs::read_to_string(&file).expect("a source is text").lines().count();
            if lines > FILE_LINES_MAX {
                long.push(format!("{}: {lines} lines", relative(&file)));
            }
        }
    }
    for (path, _, reason) in LONGER_FILES {
        assert!(root().join("src").join(path).exists(), "{path} is gone: take it off the list");
        assert!(!reason.is_empty(), "{path}: say why");
    }
    expect_none("split the file, or name it in LONGER_FILES with a reason", &long);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "docs", "scripts", "docker", "config", ".ci"] {
        for file in text_files(&root().join(folder)) {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            for (number, line) in text.lines().enumerate() {
                if UNFINISHED.iter().any(|word| line.contains(word)) {
                    found.push(format!("{}:{}", relative(&file), number + 1));
                }
            }
        }
    }
    for source in sources() {
        for pair in source.tokens.windows(2) {
            if ["todo", "unimplemented"].contains(&pair[0].text.as_str()) && pair[1].text == "!" {
                found.push(format!("src/{}:{}", source.path, pair[0].line));
            }
        }
    }
    expect_none("finish it, or open an issue and say so in the documents", &found);
}

#[test]
fn nothing_in_src_unwraps_outside_tests() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.test) {
        for triple in source.tokens.windows(3) {
            let text = |at: usize| triple[at].text.as_str();
            if !triple[0].test && text(0) == "." && text(1) == "unwrap" && text(2) == "(" {
                found.push(format!("src/{}:{}", source.path, triple[1].line));
            }
        }
    }
    expect_none("return an error, or `expect(\"why it cannot fail\")`", &found);
}

/// Tests of other processes, which give no event to wait for: (path, why).
const REAL_TIME: &[(&str, &str)] =
    &[("../tests/processes/", "nodes and servers are processes of their own")];

#[test]
fn tests_neither_sleep_nor_are_ignored_nor_fix_a_port() {
    let mut found = Vec::new();
    let mut files = sources();
    files.extend(Source::read_all(&root().join("tests")).into_iter().map(|mut source| {
        source.path = format!("../tests/{}", source.path);
        source.test = true;
        source
    }));
    files.retain(|source| !REAL_TIME.iter().any(|(path, _)| source.path.starts_with(path)));
    for source in files {
        for window in source.tokens.windows(5) {
            let text: Vec<&str> = window.iter().map(|token| token.text.as_str()).collect();
            let banned = matches!(
                text.as_slice(),
                ["thread", ":", ":", "sleep", "("] | ["#", "[", "ignore", ..]
            ) || text.first().is_some_and(|text| text.starts_with("\"127.0.0.1:5484"));
            if banned && (source.test || window[0].test) {
                found.push(format!("src/{}:{}", source.path, window[0].line));
            }
        }
    }
    expect_none("wait for what is awaited, run every test, listen on port 0", &found);
}

#[test]
fn markdown_has_one_title_and_links_that_resolve() {
    let mut found = Vec::new();
    let mut files: Vec<PathBuf> = text_files(&root().join("docs"));
    files.extend(["README.md", "CONTRIBUTING.md", "data/README.md"].map(|name| root().join(name)));
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "md")) {
        let text = std::fs::read_to_string(file).expect("a document can be read");
        let prose = without_code(&text);
        let titles = prose.lines().filter(|line| line.starts_with("# ")).count();
        if titles != 1 {
            found.push(format!("{}: {titles} titles", relative(file)));
        }
        for target in link_targets(&prose) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            if !file.parent().unwrap_or(Path::new("")).join(path).exists() {
                found.push(format!("{}: no such file: {target}", relative(file)));
            }
        }
    }
    expect_none("one `# ` title a page, and no dead links", &found);
}

#[test]
fn test_code_and_links_are_told_from_the_rest() {
    let source = Source::parse(
        "a/b.rs".to_owned(),
        "fn f() { x.unwrap(); }\n#[cfg(test)]\nmod tests {\n  fn g() { y.unwrap(); }\n}\n"
            .to_owned(),
    );
    let marks: BTreeMap<usize, bool> = source
        .tokens
        .iter()
        .filter(|token| token.text == "unwrap")
        .map(|token| (token.line, token.test))
        .collect();
    assert_eq!(marks, BTreeMap::from([(1, false), (4, true)]));
    assert_eq!(source.depth(), 2);
    assert_eq!(link_targets("see [a](b.md#c) and `[x](y)`"), ["b.md#c"]);
}

/// `UPDATE_GOLDENFILES=1` writes the heads and the index anew.
#[test]
fn every_command_has_a_page_that_begins_as_the_table_says() {
    let folder = root().join("docs/commands");
    let update = std::env::var("UPDATE_GOLDENFILES").is_ok_and(|value| value == "1");
    let mut wrong = Vec::new();
    let mut wanted = BTreeMap::from([("README.md".to_owned(), pages::index())]);
    for spec in table().specs() {
        let name = pages::file_name(spec);
        let page = wanted
            .entry(name.clone())
            .or_insert_with(|| std::fs::read_to_string(folder.join(&name)).unwrap_or_default());
        *page = pages::with_head(spec, page);
    }
    for (name, text) in &wanted {
        let path = folder.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|found| found == *text) {
            continue;
        }
        if update {
            std::fs::create_dir_all(&folder).expect("the folder of the pages");
            std::fs::write(&path, text).expect("a page can be written");
        } else {
            wrong.push(format!("docs/commands/{name} is missing or not as the table says"));
        }
    }
    for file in text_files(&folder) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !wanted.contains_key(&name) {
            wrong.push(format!("docs/commands/{name} is about no command"));
        }
    }
    expect_none("record with UPDATE_GOLDENFILES=1 and write the rest of the page", &wrong);
}

#[test]
fn every_error_code_stands_in_the_table_of_errors_and_no_other() {
    let source = std::fs::read_to_string(root().join("src/error.rs")).expect("src/error.rs");
    let body = source.split("fn code(&self)").nth(1).expect("Error::code makes the codes");
    let body = body.split("\n    }\n").next().unwrap_or_default();
    let mut codes = quoted_words(body);
    let of_the_store = source.split("fn store_code(").nth(1).expect("store_code makes the others");
    codes.extend(quoted_words(of_the_store.split("\n}\n").next().unwrap_or_default()));
    assert!(codes.len() > 10, "the codes were not found: {codes:?}");
    let page = std::fs::read_to_string(root().join("docs/errors.md")).expect("docs/errors.md");
    let documented = first_cells(&page);
    let missing: Vec<String> = codes.difference(&documented).cloned().collect();
    expect_none("docs/errors.md lacks", &missing);
    let unknown: Vec<String> = documented.difference(&codes).cloned().collect();
    expect_none("docs/errors.md has codes that no error gives", &unknown);
}

#[test]
fn every_kind_of_key_stands_in_the_table_of_keys_with_its_number() {
    let source = std::fs::read_to_string(root().join("src/codec/keys.rs")).expect("keys.rs");
    let page = std::fs::read_to_string(root().join("docs/keyspace.md")).expect("keyspace.md");
    let pattern = regex::Regex::new(r"pub const ([A-Z_]+): u16 = (\d+);").expect("a pattern");
    let kinds = source.split("pub mod due").next().unwrap_or_default();
    let missing: Vec<String> = pattern
        .captures_iter(kinds)
        // The counters of a count key are told in its row.
        .filter(|found| !["DOCUMENTS", "BYTES"].contains(&&found[1]))
        .map(|found| format!("| {} `{}` |", &found[2], &found[1]))
        .filter(|row| !page.contains(row))
        .collect();
    expect_none("docs/keyspace.md lacks", &missing);
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains('`')).count();
    assert!(rows >= 40, "the table of keys was not found");
}

#[test]
fn alerts_and_dashboard_use_metrics_that_exist_and_each_alert_has_its_paragraph() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("a file can be read");
    let metrics = first_cells(&read("docs/metrics.md"));
    let name = regex::Regex::new(r"\blethe_[a-z_]+").expect("a valid pattern");
    let mut found = Vec::new();
    for path in ["docker/monitoring/alerts.yml", "docker/monitoring/grafana/lethe.json"] {
        let text = read(path);
        let mut used = 0;
        for metric in name.find_iter(&text).map(|found| found.as_str()) {
            let family = metric.strip_suffix("_bucket").unwrap_or(metric);
            used += 1;
            if !metrics.contains(family) {
                found.push(format!("{path}: {metric} is not in docs/metrics.md"));
            }
        }
        assert!(used > 10, "{path}: the metrics were not found");
    }
    let rules = read("docker/monitoring/alerts.yml");
    let alerts: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let guide = read("docs/operations.md");
    let described: BTreeSet<&str> =
        guide.lines().filter_map(|line| line.strip_prefix("### Lethe")).collect();
    let named: BTreeSet<&str> =
        alerts.iter().filter_map(|alert| alert.strip_prefix("Lethe")).collect();
    found.extend(
        named.symmetric_difference(&described).map(|alert| {
            format!("Lethe{alert} is not both in alerts.yml and in docs/operations.md")
        }),
    );
    expect_none("alerts, dashboard and guide go together", &found);
}

/// What docs/verification.md says is shown by a test, a transcript or a page of the manual.
#[test]
fn every_test_that_the_verification_names_is_there() {
    let file = root().join("docs/verification.md");
    let page = std::fs::read_to_string(file).expect("the page can be read");
    let page = page.split_once("## What went wrong elsewhere").map_or("", |(_, rest)| rest);
    let mut found = Vec::new();
    let mut named = 0;
    for word in page.split('`').skip(1).step_by(2) {
        let there = if let Some((module, test)) = word.split_once("::") {
            let files = [format!("tests/scenarios/{module}.rs"), format!("tests/{module}.rs")];
            let text: String = files
                .iter()
                .map(|file| root().join(file))
                .map(|file| std::fs::read_to_string(file).unwrap_or_default())
                .collect();
            text.contains(&format!("fn {test}(")) || text.contains(&format!(" {test}:"))
        } else if let Some(page) = word.strip_prefix("commands/") {
            let page = root().join("docs/commands").join(page);
            std::fs::read_to_string(page).is_ok_and(|text| text.contains("```transcript"))
        } else if ["lifecycle/", "namespace/"].iter().any(|family| word.starts_with(family)) {
            root().join("tests/transcripts").join(word).is_file()
        } else {
            continue;
        };
        named += usize::from(word != "module::test" && word != "commands/page.md");
        if !there && word != "module::test" && word != "commands/page.md" {
            found.push(word.to_owned());
        }
    }
    expect_none("docs/verification.md names what is not there", &found);
    assert!(named > 80, "only {named} names were found");
    let rows: BTreeSet<u32> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .flat_map(|cell| {
            cell.split(", ").map(|row| row.parse().unwrap_or_default()).collect::<Vec<_>>()
        })
        .collect();
    let missing: Vec<u32> = (1..=107).filter(|row| !rows.contains(row)).collect();
    assert!(missing.is_empty(), "rows {missing:?} are not gone through");
}

fn quoted_words(text: &str) -> BTreeSet<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What stands in backticks in the first column of the tables of a page.
fn first_cells(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned))
        .collect()
}

fn text_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return files };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(text_files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).to_string_lossy().into_owned()
}

/// The text without fenced blocks and inline code.
fn without_code(text: &str) -> String {
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let outside: String = line.split('`').step_by(2).collect();
            writeln!(prose, "{outside}").expect("writing to a string cannot fail");
        }
    }
    prose
}

fn link_targets(prose: &str) -> Vec<String> {
    let pattern = regex::Regex::new(r"\]\(([^)\s]+)\)").expect("a valid pattern");
    let prose = without_code(prose);
    pattern.captures_iter(&prose).map(|found| found[1].to_owned()).collect()
}
