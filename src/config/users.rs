use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is shown in place of a secret.
const HIDDEN: &str = "(hidden)";

/// Rules of users, a user each. They hold passwords: nothing that prints them shows one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserRules(pub Vec<String>);

impl UserRules {
    /// One from each line that is neither empty nor a comment.
    pub(super) fn lines(text: &str) -> impl Iterator<Item = String> {
        let lines = text.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
    }
}

impl fmt::Debug for UserRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserRules({})", self.0.len())
    }
}

/// As CONFIG GET shows them.
impl Serialize for UserRules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|_| HIDDEN))
    }
}

impl<'de> Deserialize<'de> for UserRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Rules)
    }
}

/// Takes a list of texts, or one text with a user a line.
struct Rules;

impl<'de> Visitor<'de> for Rules {
    type Value = UserRules;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of users, each as ACL SETUSER takes it")
    }

    fn visit_str<E>(self, text: &str) -> Result<UserRules, E> {
        Ok(UserRules(UserRules::lines(text).collect()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<UserRules, A::Error> {
        let mut rules = Vec::new();
        while let Some(rule) = items.next_element::<String>()? {
            rules.push(rule);
        }
        Ok(UserRules(rules))
    }
}
