//! Reads the crate's own source as tokens, for the checks in `tests/tidy.rs`.
//!
//! Tokens rather than text, so that a comment, a string or a character literal
//! never counts as code. What stands below `#[cfg(test)]` is marked as test code.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One file below `src/`.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path relative to `src/`, with `/` between its parts.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    /// The whole file is below `#[cfg(test)]` in the module that declares it.
    pub(crate) test: bool,
}

/// A token, flattened: the inside of a group follows its opening bracket.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    /// Below `#[cfg(test)]`.
    pub(crate) test: bool,
}

impl Source {
    /// Reads every `.rs` file below `root`, in order of their paths.
    pub(crate) fn read_all(root: &Path) -> Vec<Source> {
        let mut files = Vec::new();
        collect(root, &mut files);
        files.sort();
        let mut sources: Vec<Source> = files.iter().map(|file| Source::read(root, file)).collect();
        let test_modules: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
        for source in &mut sources {
            let module = source.module();
            source.test = test_modules.iter().any(|test| {
                module
                    .strip_prefix(test.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
        }
        sources
    }

    fn read(root: &Path, file: &Path) -> Source {
        let text = std::fs::read_to_string(file).expect("a source file can be read");
        let path = file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        Source::parse(path, text)
    }

    pub(crate) fn parse(path: String, text: String) -> Source {
        let stream: TokenStream =
            text.parse().unwrap_or_else(|error| panic!("{path} does not lex: {error}"));
        let mut tokens = Vec::new();
        flatten(stream, false, &mut tokens);
        Source { path, text, tokens, test: false }
    }

    /// The module directly below the crate root that this file belongs to.
    pub(crate) fn top_module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many `super::` lead from this file's module to the crate root.
    pub(crate) fn depth(&self) -> usize {
        let parts = self.path.split('/').count();
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }

    /// Path of the module: `a/b` for `a/b.rs` and for `a/b/mod.rs`.
    fn module(&self) -> &str {
        let path = self.path.strip_suffix("/mod.rs").unwrap_or(&self.path);
        path.strip_suffix(".rs").unwrap_or(path)
    }

    /// The modules in files of their own that this one declares below `#[cfg(test)]`.
    fn test_modules(&self) -> Vec<String> {
        self.tokens
            .windows(3)
            .filter(|it| it[1].test && it[0].text == "mod" && it[2].text == ";")
            .map(|it| format!("{}/{}", self.module(), it[1].text))
            .collect()
    }

    /// Lines of the file without those of its `#[cfg(test)]` modules.
    pub(crate) fn code_lines(&self) -> usize {
        let test_lines: std::collections::BTreeSet<usize> =
            self.tokens.iter().filter(|token| token.test).map(|token| token.line).collect();
        let all = self.text.lines().count();
        match (test_lines.first(), test_lines.last()) {
            // Test modules stand at the end of a file; blank lines and comments inside them count as theirs.
            (Some(first), Some(last)) => all - (last - first + 1),
            _ => all,
        }
    }

    /// The first names of all `crate::...` paths, with their lines, also those in braces.
    pub(crate) fn crate_paths(&self) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        let text = |at: usize| self.tokens.get(at).map_or("", |token| token.text.as_str());
        for at in 0..self.tokens.len() {
            if text(at) != "crate" || text(at + 1) != ":" || text(at + 2) != ":" {
                continue;
            }
            if text(at + 3) == "{" {
                found.extend(self.group_heads(at + 4));
            } else {
                found.push((text(at + 3).to_owned(), self.tokens[at].line));
            }
        }
        found
    }

    /// The first name of each path in a `{a::b, c}` group whose inside starts at `at`.
    fn group_heads(&self, mut at: usize) -> Vec<(String, usize)> {
        let mut heads = Vec::new();
        let mut depth = 1;
        let mut expects_head = true;
        while let Some(token) = self.tokens.get(at) {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 1 => expects_head = true,
                name if expects_head => {
                    heads.push((name.to_owned(), token.line));
                    expects_head = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
            at += 1;
        }
        heads
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a source folder can be listed") {
        let path = entry.expect("a folder entry can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn flatten(stream: TokenStream, test: bool, into: &mut Vec<Token>) {
    // After `#[cfg(test)]` everything up to the end of the item is test code: its body or its `;`.
    let mut next_item_is_test = false;
    let mut after_hash = false;
    for tree in stream {
        let line = tree.span().start().line;
        let in_test = test || next_item_is_test;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                let attribute = after_hash && group.delimiter() == Delimiter::Bracket;
                let marks_test = attribute && is_cfg_test(&group.stream());
                let end = group.span_close().start().line;
                into.push(Token { text: open.to_owned(), line, test: in_test });
                flatten(group.stream(), in_test, into);
                into.push(Token { text: close.to_owned(), line: end, test: in_test });
                if marks_test {
                    next_item_is_test = true;
                } else if group.delimiter() == Delimiter::Brace {
                    next_item_is_test = false;
                }
                after_hash = false;
            }
            TokenTree::Punct(punct) => {
                after_hash = punct.as_char() == '#' || (after_hash && punct.as_char() == '!');
                into.push(Token { text: punct.as_char().to_string(), line, test: in_test });
                if punct.as_char() == ';' {
                    next_item_is_test = false;
                }
            }
            TokenTree::Ident(ident) => {
                after_hash = false;
                into.push(Token { text: ident.to_string(), line, test: in_test });
            }
            TokenTree::Literal(literal) => {
                after_hash = false;
                into.push(Token { text: literal.to_string(), line, test: in_test });
            }
        }
    }
}

fn is_cfg_test(attribute: &TokenStream) -> bool {
    let text = attribute.to_string().replace(' ', "");
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}
