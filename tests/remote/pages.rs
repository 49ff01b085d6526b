//! The examples of the manual, played in order against one node for each page.
//!
//! In a block ```` ```console ```` a line `$ lethe ...` is run, a line `> ...` is sent to
//! the node as redis-cli would, and the rest is what was printed. In a block
//! ```` ```console shape ```` numbers and the room between columns may differ.
//! `UPDATE_GOLDENFILES=1` records the others anew.

use std::path::Path;

use regex::Regex;

use super::mask::Masks;
use super::{Ran, TestNode, cli, lethe};

const BEGIN: &str = "```console";

#[test]
fn the_examples_of_the_manual_are_what_happens() {
    check("docs/cli.md");
}

#[test]
fn the_readme_brings_a_removed_bucket_back() {
    check("README.md");
}

fn check(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let page = std::fs::read_to_string(&file).unwrap();
    let node = TestNode::start();
    let mut masks = Masks::new(&page);
    let (mut played, mut block, mut blocks) = (String::new(), None, 0);
    for line in page.lines() {
        match (&mut block, line) {
            (None, line) if line.starts_with(BEGIN) => block = Some((line, Vec::new())),
            (Some((head, lines)), "```") => {
                let text = play(&node, &mut masks, lines);
                let recorded = lines.join("\n");
                let same = if head.ends_with(" shape") && shape(&recorded) == shape(&text) {
                    recorded
                } else {
                    text
                };
                played.extend([*head, "\n", &same, "\n```\n"]);
                blocks += 1;
                block = None;
            }
            (Some((_, lines)), line) => lines.push(line),
            (None, line) => {
                played.push_str(line);
                played.push('\n');
            }
        }
    }
    assert!(blocks > 0 && block.is_none(), "{name}: {blocks} blocks, or one that does not end");
    if std::env::var("UPDATE_GOLDENFILES").is_ok_and(|value| value == "1") {
        std::fs::write(&file, played).unwrap();
        return;
    }
    for (number, (told, is)) in page.lines().zip(played.lines()).enumerate() {
        assert_eq!(told, is, "{name}:{}: record with UPDATE_GOLDENFILES=1", number + 1);
    }
    assert_eq!(page, played, "{name}: record with UPDATE_GOLDENFILES=1");
}

/// What a block looks like after it was played.
fn play(node: &TestNode, masks: &mut Masks, lines: &[&str]) -> String {
    let mut played = Vec::new();
    for line in lines {
        if let Some(words) = line.strip_prefix("$ lethe") {
            let words = cli::split(&masks.reveal(words)).unwrap();
            let words: Vec<&str> =
                words.iter().map(|word| std::str::from_utf8(word).unwrap()).collect();
            let mut command = lethe(&words);
            let ran = Ran::of(command.env("LETHE_URL", node.url()));
            played.push((*line).to_owned());
            played.extend(masks.hide(&ran.err).lines().map(str::to_owned));
            played.extend(masks.hide(&ran.out).lines().map(str::to_owned));
            if ran.status != 0 {
                played.push(format!("(exit code {})", ran.status));
            }
        } else if let Some(command) = line.strip_prefix("> ") {
            node.play(&masks.reveal(command));
            played.push((*line).to_owned());
        }
    }
    played.join("\n")
}

/// A text without its numbers and what depends on them: units, plurals, the room between columns.
fn shape(text: &str) -> String {
    let numbers = Regex::new(r"-?[0-9][0-9.,]*|\b([KMG]i)?B\b").unwrap();
    let plurals = Regex::new(r"\b(bucket|document|client)s\b").unwrap();
    let blanks = Regex::new(" +").unwrap();
    let text = numbers.replace_all(text, "N");
    blanks.replace_all(&plurals.replace_all(&text, "$1"), " ").into_owned()
}
