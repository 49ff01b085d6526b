//! The rules of ACL SETUSER: `on`, `>password`, `+@read`, `~pattern`, `(+@write ~x)` and the others.
//!
//! Rules are read first, all of them, then passwords are hashed, and only then a user is changed:
//! a bad rule changes nothing.

use super::password::{Digest, Hasher};
use super::right::{Right, Rights};
use super::user::{Selector, User};
use crate::error::{Error, Result};

/// Bounds of one user, so that its record fits a value of the store many times over.
const PASSWORDS_MAX: usize = 8;
const SELECTORS_MAX: usize = 32;
const PATTERNS_MAX: usize = 64;
const COMMANDS_MAX: usize = 128;
const PATTERN_BYTES_MAX: usize = 512;

const SYNTAX: &str = "Syntax error";
const UNKNOWN: &str = "Unknown command or category name in ACL";
const BAD_HASH: &str = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters";
const NO_PASSWORD: &str = "The password you are trying to remove from the user does not exist";
const CHANNELS: &str = "there are no channels";
const KEYS: &str = "a pattern is of namespaces: give rights with +@read and +@write, each in a selector of its own";

/// What rules have to know of the commands.
pub trait Commands {
    /// Whether there is one of this name, in lower case, with `|` before a subcommand.
    fn exists(&self, name: &str) -> bool;
    /// Whether its right is this one; of a command with subcommands, that of any.
    fn takes(&self, name: &str, right: Right) -> bool;
}

/// A rule that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// As it was written, without what may be a password.
    modifier: String,
    what: &'static str,
}

impl From<RuleError> for Error {
    fn from(error: RuleError) -> Self {
        let RuleError { modifier, what } = error;
        Self::Syntax(format!("Error in ACL SETUSER modifier '{modifier}': {what}"))
    }
}

fn wrong(rule: &str, what: &'static str) -> RuleError {
    const SHOWN_CHARS: usize = 100;
    let secret = rule.starts_with(['>', '<', '#', '!']);
    let shown = if secret {
        format!("{}...", rule.chars().next().unwrap_or_default())
    } else {
        rule.chars().take(SHOWN_CHARS).collect()
    };
    RuleError { modifier: shown, what }
}

/// What a rule does to a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Grant {
    All,
    Nothing,
    Right(Right, bool),
    Command(String, bool),
    Pattern(String),
    NoPatterns,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Enabled(bool),
    NoPass,
    ResetPass,
    AddPassword(Digest),
    RemovePassword(Digest),
    Root(Grant),
    Selector(Vec<Grant>),
    ClearSelectors,
    Reset,
}

/// Splits a line of the configuration, `name rule rule ...`, into words.
pub fn rule_words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Rules that were read and are in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules(Vec<(String, Rule)>);

/// Rules whose passwords are hashed.
#[derive(Debug)]
pub struct Prepared(Vec<(String, Step)>);

#[derive(Debug)]
enum Step {
    Rule(Rule),
    AddHash(String),
    RemoveHash(String),
}

impl Rules {
    /// Reads all of them.
    ///
    /// # Errors
    /// The first that is none.
    pub fn parse<'a>(
        words: impl Iterator<Item = &'a str>,
        commands: &dyn Commands,
    ) -> Result<Self> {
        let mut rules = Vec::new();
        let mut selector: Option<String> = None;
        for word in words {
            if let Some(open) = &mut selector {
                open.push(' ');
                open.push_str(word);
            } else if word.starts_with('(') {
                selector = Some(word.to_owned());
            } else {
                let rule = rule(word, commands)?;
                rules.push((wrong(word, "").modifier, rule));
            }
            if let Some(whole) = selector.take_if(|open| open.ends_with(')')) {
                let inner = whole.trim_start_matches('(').trim_end_matches(')');
                let grants = inner
                    .split_whitespace()
                    .map(|word| {
                        grant(word, commands).and_then(|it| it.ok_or_else(|| wrong(word, SYNTAX)))
                    })
                    .collect::<std::result::Result<_, _>>()?;
                rules.push((whole, Rule::Selector(grants)));
            }
        }
        match selector {
            Some(open) => {
                let first = open.split(' ').next().unwrap_or_default();
                let secret = first.contains(['>', '<', '#', '!']);
                let shown = if secret { "(..." } else { first };
                Err(Error::Syntax(format!(
                    "Unmatched parenthesis in acl selector starting at '{shown}'."
                )))
            }
            None => Ok(Self(rules)),
        }
    }

    /// Hashes the passwords, and finds which of the user's are to go.
    ///
    /// # Errors
    /// A password to remove that is not there; too many at once.
    pub async fn prepare(self, user: &User, hasher: &Hasher) -> Result<Prepared> {
        let mut steps = Vec::with_capacity(self.0.len());
        let mut added: Vec<(Digest, String)> = Vec::new();
        let mut known = user.passwords.clone();
        for (word, rule) in self.0 {
            let step = match rule {
                Rule::AddPassword(digest) => {
                    let here = added.iter().any(|(other, _)| *other == digest);
                    if here || hasher.find(&digest, &known, 0).await?.is_some() {
                        continue;
                    }
                    let hash = hasher.hash(&digest).await?;
                    added.push((digest, hash.clone()));
                    Step::AddHash(hash)
                }
                Rule::RemovePassword(digest) => {
                    let here = added.iter().position(|(other, _)| *other == digest);
                    let found = match here {
                        Some(at) => Some(added.swap_remove(at).1),
                        None => hasher.find(&digest, &known, 0).await?,
                    };
                    Step::RemoveHash(found.ok_or_else(|| wrong(&word, NO_PASSWORD))?)
                }
                rule @ (Rule::ResetPass | Rule::NoPass | Rule::Reset) => {
                    added.clear();
                    known.clear();
                    Step::Rule(rule)
                }
                rule => Step::Rule(rule),
            };
            steps.push((word, step));
        }
        Ok(Prepared(steps))
    }
}

impl Prepared {
    /// Changes a user by all of the rules.
    ///
    /// # Errors
    /// A password to remove that somebody else has removed meanwhile; too much of anything.
    pub fn apply(&self, user: &mut User, commands: &dyn Commands) -> Result<()> {
        for (word, step) in &self.0 {
            match step {
                Step::Rule(rule) => apply(user, rule, commands),
                Step::AddHash(hash) => {
                    user.passwords.push(hash.clone());
                    user.nopass = false;
                }
                Step::RemoveHash(hash) => {
                    let at = user.passwords.iter().position(|known| known == hash);
                    user.passwords.remove(at.ok_or_else(|| wrong(word, NO_PASSWORD))?);
                }
            }
        }
        let too_many = |what, most| {
            Err(Error::Syntax(format!("user '{}' would have more than {most} {what}", user.name)))
        };
        if user.passwords.len() > PASSWORDS_MAX {
            return too_many("passwords", PASSWORDS_MAX);
        }
        if user.selectors.len() > SELECTORS_MAX {
            return too_many("selectors", SELECTORS_MAX);
        }
        for selector in user.all() {
            if selector.patterns.len() > PATTERNS_MAX {
                return too_many("patterns in a selector", PATTERNS_MAX);
            }
            if selector.commands.len() > COMMANDS_MAX {
                return too_many("rules of commands in a selector", COMMANDS_MAX);
            }
        }
        Ok(())
    }
}

fn rule(word: &str, commands: &dyn Commands) -> std::result::Result<Rule, RuleError> {
    if let Some(password) = word.strip_prefix('>') {
        return Digest::of(password.as_bytes())
            .map(Rule::AddPassword)
            .ok_or_else(|| wrong(word, "a password has 1 to 512 bytes"));
    }
    if let Some(password) = word.strip_prefix('<') {
        return Digest::of(password.as_bytes())
            .map(Rule::RemovePassword)
            .ok_or_else(|| wrong(word, NO_PASSWORD));
    }
    let hex = |hex: &str| Digest::from_hex(hex).ok_or_else(|| wrong(word, BAD_HASH));
    if let Some(digest) = word.strip_prefix('#') {
        return hex(digest).map(Rule::AddPassword);
    }
    if let Some(digest) = word.strip_prefix('!') {
        return hex(digest).map(Rule::RemovePassword);
    }
    match word.to_ascii_lowercase().as_str() {
        "on" => Ok(Rule::Enabled(true)),
        "off" => Ok(Rule::Enabled(false)),
        "nopass" => Ok(Rule::NoPass),
        "resetpass" => Ok(Rule::ResetPass),
        "clearselectors" => Ok(Rule::ClearSelectors),
        "reset" => Ok(Rule::Reset),
        // There is nothing to sanitize, and no channel: what Redis writes into its own lists is taken.
        "sanitize-payload" | "skip-sanitize-payload" | "resetchannels" => {
            Ok(Rule::Selector(Vec::new()))
        }
        "allchannels" => Err(wrong(word, CHANNELS)),
        _ if word.starts_with('&') => Err(wrong(word, CHANNELS)),
        _ if word.starts_with('%') => Err(wrong(word, KEYS)),
        _ => grant(word, commands)?.map(Rule::Root).ok_or_else(|| wrong(word, SYNTAX)),
    }
}

/// Reads a rule that may stand in a selector; `None` where it is of another kind.
fn grant(word: &str, commands: &dyn Commands) -> std::result::Result<Option<Grant>, RuleError> {
    let lower = word.to_ascii_lowercase();
    let named = match lower.as_str() {
        "allcommands" | "+@all" => Grant::All,
        "nocommands" | "-@all" => Grant::Nothing,
        "allkeys" => Grant::Pattern("*".to_owned()),
        "resetkeys" => Grant::NoPatterns,
        _ => {
            if let Some(pattern) = word.strip_prefix('~') {
                return pattern_of(word, pattern).map(Some);
            }
            let (allowed, name) = match lower.split_at_checked(1) {
                Some(("+", name)) => (true, name),
                Some(("-", name)) => (false, name),
                _ => return Ok(None),
            };
            match name.strip_prefix('@') {
                Some(right) => {
                    Grant::Right(Right::parse(right).ok_or_else(|| wrong(word, UNKNOWN))?, allowed)
                }
                None if commands.exists(name) => Grant::Command(name.to_owned(), allowed),
                None => return Err(wrong(word, UNKNOWN)),
            }
        }
    };
    Ok(Some(named))
}

fn pattern_of(word: &str, pattern: &str) -> std::result::Result<Grant, RuleError> {
    let legal = |letter: char| !letter.is_whitespace() && !letter.is_control() && letter != ')';
    if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX || !pattern.chars().all(legal) {
        return Err(wrong(word, SYNTAX));
    }
    Ok(Grant::Pattern(pattern.to_owned()))
}

fn apply(user: &mut User, rule: &Rule, commands: &dyn Commands) {
    match rule {
        Rule::Enabled(enabled) => user.enabled = *enabled,
        Rule::NoPass => {
            user.nopass = true;
            user.passwords.clear();
        }
        Rule::ResetPass => {
            user.nopass = false;
            user.passwords.clear();
        }
        Rule::Root(grant) => give(&mut user.root, grant, commands),
        Rule::Selector(grants) if grants.is_empty() => {}
        Rule::Selector(grants) => {
            let mut selector = Selector::default();
            for grant in grants {
                give(&mut selector, grant, commands);
            }
            user.selectors.push(selector);
        }
        Rule::ClearSelectors => user.selectors.clear(),
        Rule::Reset => *user = User::new(&user.name, user.born),
        // Prepared before: what is left of them are hashes.
        Rule::AddPassword(_) | Rule::RemovePassword(_) => {}
    }
}

fn give(selector: &mut Selector, grant: &Grant, commands: &dyn Commands) {
    match grant {
        Grant::All => {
            selector.rights = Rights::ALL;
            selector.commands.clear();
        }
        Grant::Nothing => {
            selector.rights = Rights::NONE;
            selector.commands.clear();
        }
        Grant::Right(right, allowed) => {
            if *allowed {
                selector.rights.insert(*right);
            } else {
                selector.rights.remove(*right);
            }
            // The last rule about a command wins, also where it is about all of its kind.
            selector.commands.retain(|name, _| !commands.takes(name, *right));
        }
        Grant::Command(name, allowed) => {
            let prefix = format!("{name}|");
            selector.commands.retain(|known, _| !known.starts_with(&prefix));
            selector.commands.insert(name.clone(), *allowed);
        }
        Grant::Pattern(pattern) => {
            if pattern == "*" {
                selector.patterns.clear();
            }
            if !selector.patterns.contains(pattern) {
                selector.patterns.push(pattern.clone());
            }
        }
        Grant::NoPatterns => selector.patterns.clear(),
    }
}

impl Selector {
    /// Its rules of rights and commands, as they can be given again.
    #[must_use]
    pub fn command_rules(&self) -> String {
        let mut words = Vec::new();
        if self.rights == Rights::ALL {
            words.push("+@all".to_owned());
        } else {
            words.push("-@all".to_owned());
            words.extend(self.rights.iter().map(|right| format!("+@{}", right.name())));
        }
        for (name, allowed) in &self.commands {
            words.push(format!("{}{name}", if *allowed { '+' } else { '-' }));
        }
        words.join(" ")
    }

    /// Its patterns, as they can be given again.
    #[must_use]
    pub fn pattern_rules(&self) -> String {
        let patterns: Vec<String> = self.patterns.iter().map(|it| format!("~{it}")).collect();
        patterns.join(" ")
    }
}
