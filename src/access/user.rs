use std::collections::BTreeMap;

use super::right::{Need, Place, Right, Rights};
use crate::codec::DecodeError;
use crate::codec::glob::glob_matches;
use crate::codec::record::{SelectorRecord, UserRecord};
use crate::error::{Error, Result};

/// Who everybody is that has not logged in, where that is allowed.
pub const DEFAULT: &str = "default";

/// Most bytes of the name of a user.
pub const NAME_BYTES_MAX: usize = 64;

/// The pattern that fits every namespace.
const ANY: &str = "*";

/// Rights in the namespaces that fit one of the patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub rights: Rights,
    /// Commands that are allowed or forbidden whatever their right, by their names in lower
    /// case with `|` before a subcommand.
    pub commands: BTreeMap<String, bool>,
    pub patterns: Vec<String>,
}

impl Selector {
    /// All rights everywhere.
    #[must_use]
    pub fn everything() -> Self {
        Self { rights: Rights::ALL, commands: BTreeMap::new(), patterns: vec![ANY.to_owned()] }
    }

    /// What its rules say of this command alone.
    fn of_command(&self, command: &str) -> Option<bool> {
        let container = || command.split_once('|').and_then(|(outer, _)| self.commands.get(outer));
        self.commands.get(command).or_else(container).copied()
    }

    fn reaches(&self, place: &Place) -> bool {
        let fits = |path: &str| {
            self.patterns.iter().any(|pattern| glob_matches(pattern.as_bytes(), path.as_bytes()))
        };
        match place {
            Place::Namespace(path) => fits(path),
            Place::Seen(path) => {
                fits(path) || self.patterns.iter().any(|pattern| leads_through(pattern, path))
            }
            // A pattern that ends in a star and fits `path.` fits all that begins so.
            Place::Tree(path) => {
                let below = format!("{path}.");
                fits(path) && self.open_patterns().any(|it| glob_matches(it, below.as_bytes()))
            }
            Place::Everywhere => self.patterns.iter().any(|pattern| pattern == ANY),
        }
    }

    /// Those patterns that end in a star which means any text.
    fn open_patterns(&self) -> impl Iterator<Item = &[u8]> {
        self.patterns.iter().map(String::as_bytes).filter(|pattern| {
            let Some(rest) = pattern.strip_suffix(b"*") else { return false };
            let escapes = rest.iter().rev().take_while(|byte| **byte == b'\\').count();
            escapes % 2 == 0 && !within_class(rest)
        })
    }

    fn gives_anything(&self) -> bool {
        !self.rights.is_empty() || self.commands.values().any(|allowed| *allowed)
    }

    fn allows(&self, command: &str, need: &Need) -> bool {
        self.permits(command, need) && self.reaches(&need.place)
    }

    /// Whether it gives what is needed, wherever that is.
    fn permits(&self, command: &str, need: &Need) -> bool {
        match self.of_command(command) {
            Some(false) => false,
            Some(true) if need.own => true,
            Some(_) | None if matches!(need.place, Place::Seen(_)) => self.gives_anything(),
            Some(true) | None => self.rights.allow(need.right),
        }
    }
}

/// Whether a pattern ends inside of a `[` that nothing has closed.
fn within_class(pattern: &[u8]) -> bool {
    let mut bytes = pattern.iter();
    let mut open = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'[' => open = true,
            b']' => open = false,
            _ => {}
        }
    }
    open
}

/// A user: who logs in how, and may do what.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Made anew with each user, so that a second one of the same name is another.
    pub born: i64,
    pub enabled: bool,
    /// Any password is taken, and none is asked for.
    pub nopass: bool,
    /// What argon2id made of the passwords.
    pub passwords: Vec<String>,
    pub root: Selector,
    pub selectors: Vec<Selector>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("enabled", &self.enabled)
            .field("nopass", &self.nopass)
            .field("passwords", &self.passwords.len())
            .field("root", &self.root)
            .field("selectors", &self.selectors)
            .finish_non_exhaustive()
    }
}

/// Checks the name of a user.
///
/// # Errors
/// `ERR` that says what is wrong.
pub fn check_name(name: &str) -> Result<&str> {
    let wrong = |what| Err(Error::syntax(format!("Invalid user name: {what}")));
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return wrong("it must have 1 to 64 bytes");
    }
    if name.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return wrong("Usernames can't contain spaces or null characters");
    }
    // The audit log calls the system's own doings so, and attempts of many together.
    if name.starts_with("system:") || name == "*" {
        return wrong("it is reserved");
    }
    Ok(name)
}

impl User {
    /// As ACL SETUSER makes one that isn't there: disabled, without passwords and rights.
    #[must_use]
    pub fn new(name: &str, born: i64) -> Self {
        Self {
            name: name.to_owned(),
            born,
            enabled: false,
            nopass: false,
            passwords: Vec::new(),
            root: Selector::default(),
            selectors: Vec::new(),
        }
    }

    /// The default user as long as nobody has said otherwise: may do everything.
    #[must_use]
    pub fn open_to_all() -> Self {
        Self { enabled: true, nopass: true, root: Selector::everything(), ..Self::new(DEFAULT, 0) }
    }

    /// All of its selectors, the root first.
    pub fn all(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    /// Whether anybody can log in as this user.
    #[must_use]
    pub fn can_log_in(&self) -> bool {
        self.enabled && (self.nopass || !self.passwords.is_empty())
    }

    /// Whether it asks for no password.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.enabled && self.nopass
    }

    /// Whether it has this right there, whatever the rules say of single commands.
    #[must_use]
    pub fn may(&self, right: Right, place: &Place) -> bool {
        self.all().any(|selector| selector.rights.allow(right) && selector.reaches(place))
    }

    /// Whether it could ever be allowed to run this command, in whatever place.
    #[must_use]
    pub fn has_somewhere(&self, command: &str, need: &Need) -> bool {
        let right = match need.right {
            Right::Restore => Right::RestoreOwn,
            right => right,
        };
        let need = Need { right, ..need.clone() };
        self.all().any(|selector| !selector.patterns.is_empty() && selector.permits(command, &need))
    }

    /// Whether it may know that this namespace is there: it has a right in it, or may
    /// have one below it.
    #[must_use]
    pub fn may_see(&self, path: &str) -> bool {
        let seen = Place::Seen(path.to_owned());
        self.all().any(|selector| selector.gives_anything() && selector.reaches(&seen))
    }

    /// Judges whether this user may run a command that needs this.
    ///
    /// # Errors
    /// `NOPERM`, the same whether what the command names exists or not.
    pub fn judge(&self, command: &str, needs: &[Need]) -> Result<()> {
        if needs.is_empty() {
            return match self.root.of_command(command) {
                Some(false)
                    if !self.selectors.iter().any(|it| it.of_command(command) == Some(true)) =>
                {
                    Err(self.denied(command, None))
                }
                _ => Ok(()),
            };
        }
        for need in needs {
            if !self.all().any(|selector| selector.allows(command, need)) {
                return Err(self.denied(command, Some(need)));
            }
        }
        Ok(())
    }

    /// The refusal of a command that needs this.
    #[must_use]
    pub fn denied(&self, command: &str, need: Option<&Need>) -> Error {
        let mut text =
            format!("User {} has no permissions to run the '{command}' command", self.name);
        if let Some(need) = need {
            use std::fmt::Write as _;
            // Writing to a string cannot fail.
            let _written = write!(text, "{}: it takes @{}", need.place, need.right.name());
        }
        Error::NoPermission(text)
    }

    /// As it is stored.
    #[must_use]
    pub fn to_record(&self, changed_at: i64, changed_by: &str) -> UserRecord {
        UserRecord {
            born: self.born,
            enabled: self.enabled,
            nopass: self.nopass,
            passwords: self.passwords.clone(),
            selectors: self.all().map(Selector::to_record).collect(),
            changed_at,
            changed_by: changed_by.to_owned(),
        }
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// A record without a root selector or with a right that is unknown.
    pub fn from_record(name: &str, record: UserRecord) -> std::result::Result<Self, DecodeError> {
        let mut selectors = record.selectors.into_iter().map(Selector::from_record);
        let root = selectors.next().ok_or_else(|| DecodeError::new("user", "no selector"))??;
        Ok(Self {
            name: name.to_owned(),
            born: record.born,
            enabled: record.enabled,
            nopass: record.nopass,
            passwords: record.passwords,
            root,
            selectors: selectors.collect::<std::result::Result<_, _>>()?,
        })
    }
}

/// Whether a pattern may fit something below this namespace: its segments in front fit those
/// of the path. May say yes too often, never no where something is.
fn leads_through(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.split('.');
    for segment in path.split('.') {
        match wanted.next() {
            // A star may stand for several segments, a class may hold a dot.
            Some(part) if part.contains(['*', '[', '\\', '?']) => return true,
            Some(part) if part == segment => {}
            Some(_) | None => return false,
        }
    }
    wanted.next().is_some()
}

impl Selector {
    fn to_record(&self) -> SelectorRecord {
        let sign = |allowed: &bool| if *allowed { '+' } else { '-' };
        SelectorRecord {
            rights: self.rights.iter().map(|right| right.name().to_owned()).collect(),
            commands: (self.commands.iter())
                .map(|(command, allowed)| format!("{}{command}", sign(allowed)))
                .collect(),
            patterns: self.patterns.clone(),
        }
    }

    fn from_record(record: SelectorRecord) -> std::result::Result<Self, DecodeError> {
        let mut rights = Rights::NONE;
        for name in &record.rights {
            let unknown = || DecodeError::new("user", format!("unknown right '{name}'"));
            rights.insert(Right::parse(name).ok_or_else(unknown)?);
        }
        let mut commands = BTreeMap::new();
        for rule in &record.commands {
            let wrong = || DecodeError::new("user", "a rule of a command without + or -");
            let (allowed, name) = match rule.split_at_checked(1) {
                Some(("+", name)) => (true, name),
                Some(("-", name)) => (false, name),
                _ => return Err(wrong()),
            };
            commands.insert(name.to_owned(), allowed);
        }
        Ok(Self { rights, commands, patterns: record.patterns })
    }
}
