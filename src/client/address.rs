use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::tls::Trust;

const PORT: u16 = 5484;
const TLS_PORT: u16 = 6484;

/// Where a node is, as whom one talks to it, and in which of its namespaces:
/// `lethe://user:password@host:port/namespace`, with TLS `lethes://`. Redis' words for the two, `redis://` and `rediss://`,
/// mean the same.
///
/// Neither its text nor its debug form shows the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    /// `None`: whoever the node takes a stranger for.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// `None`: the one that sessions start in.
    pub namespace: Option<String>,
    /// Whom to trust where one talks by TLS; `None`: without it.
    pub tls: Option<Trust>,
}

/// An address that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Address {
    /// Host and port, as a connection needs them.
    #[must_use]
    pub fn endpoint(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Host and port, for people.
    #[must_use]
    pub fn place(&self) -> String {
        let brackets = self.host.contains(':');
        let (open, close) = if brackets { ("[", "]") } else { ("", "") };
        format!("{open}{}{close}:{}", self.host, self.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "lethes" } else { "lethe" };
        write!(f, "{scheme}://{}", self.place())?;
        self.namespace.iter().try_for_each(|namespace| write!(f, "/{namespace}"))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // What stands in front of the last `@` may hold a password, and is not repeated.
        let shown = match text.rsplit_once('@') {
            Some((_, rest)) => format!("***@{rest}"),
            None => text.to_owned(),
        };
        let wrong = |why: &str| {
            let form = "lethe://user:password@host:port/namespace (lethes:// for TLS), of which only the host must be there";
            AddressError(format!("'{shown}' is no address: {why}; give {form}"))
        };
        let (tls, rest) = match text.split_once("://") {
            Some(("lethe" | "redis", rest)) => (None, rest),
            Some(("lethes" | "rediss", rest)) => (Some(Trust::default()), rest),
            Some(_) => return Err(wrong("its scheme is unknown")),
            None => (None, text),
        };
        let (who, rest) = match rest.rsplit_once('@') {
            Some((who, rest)) => (Some(who), rest),
            None => (None, rest),
        };
        let (user, password) = match who.map(|who| who.split_once(':').unwrap_or((who, ""))) {
            Some((user, password)) => (decoded(user), decoded(password)),
            None => (Some(None), Some(None)),
        };
        let (Some(user), Some(password)) = (user, password) else {
            return Err(wrong("user or password is not UTF-8"));
        };
        let (place, namespace) = match rest.split_once('/') {
            Some((place, namespace)) => (place, Some(namespace.to_owned())),
            None => (rest, None),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => {
                (host, Some(port.strip_prefix(':').ok_or_else(|| wrong("its port is none"))?))
            }
            None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let usual = if tls.is_some() { TLS_PORT } else { PORT };
        let port =
            port.map_or(Ok(usual), |port| port.parse().map_err(|_| wrong("its port is none")))?;
        let is_odd = |letter: char| letter.is_whitespace() || letter.is_control();
        if host.is_empty() || host.contains(is_odd) {
            return Err(wrong("it names no host"));
        }
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        let password = password.map(Secret);
        Ok(Self { host: host.to_owned(), port, user, password, namespace, tls })
    }
}

/// A part of an address without its escapes, `Some(None)` if there is nothing; `None` if it is no text.
#[expect(clippy::option_option, reason = "nothing there, and nothing that can be read, differ")]
fn decoded(part: &str) -> Option<Option<String>> {
    let text = percent_decode_str(part).decode_utf8().ok()?;
    Some((!text.is_empty()).then(|| text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_and_nonsense_is_refused_with_a_reason() {
        for (text, shown) in [
            ("localhost", "lethe://localhost:5484"),
            ("redis://db.example.org:7000", "lethe://db.example.org:7000"),
            ("lethe://127.0.0.1:1/a.b", "lethe://127.0.0.1:1/a.b"),
            ("lethe://[::1]:9/", "lethe://[::1]:9"),
            ("[::1]", "lethe://[::1]:5484"),
            ("rediss://db.example.org/a", "lethes://db.example.org:6484/a"),
            ("lethes://[::1]:9", "lethes://[::1]:9"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
        for (text, why) in [
            ("", "no host"),
            (":5", "no host"),
            ("a:b", "port"),
            ("a:99999", "port"),
            ("[::1]x", "port"),
            ("http://a", "scheme"),
            ("u:%ff@a", "UTF-8"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn user_and_password_are_read_and_never_shown() {
        let check = |text: &str, user: Option<&str>, password: Option<&str>| {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.user.as_deref(), user, "{text}");
            assert_eq!(address.password.as_ref().map(Secret::reveal), password, "{text}");
            assert_eq!(address.endpoint(), ("h", PORT), "{text}");
            assert!(!format!("{address} {address:?}").contains("geheim"), "{text}");
        };
        check("ada@h", Some("ada"), None);
        check("redis://ada:geheim@h", Some("ada"), Some("geheim"));
        check("redis://:geheim@h/a", None, Some("geheim"));
        check("redis://a%3Aa:geheim%40%2F@h", Some("a:a"), Some("geheim@/"));
        check("redis://ada:geheim@in@h", Some("ada"), Some("geheim@in"));
        let error = "redis://ada:geheim@h:x".parse::<Address>().unwrap_err().to_string();
        assert!(!error.contains("geheim") && error.contains("***@h:x"), "{error}");
    }
}
