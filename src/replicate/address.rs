use std::fmt;
use std::str::FromStr;

use super::Error;

const PORT: u16 = 5484;

/// Where a node is, and in which of its namespaces: `lethe://host:port/namespace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    /// `None`: the one that sessions start in.
    pub namespace: Option<String>,
}

impl Address {
    /// Host and port, as a connection needs them.
    #[must_use]
    pub fn endpoint(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = self.host.contains(':');
        let (open, close) = if brackets { ("[", "]") } else { ("", "") };
        write!(f, "lethe://{open}{}{close}:{}", self.host, self.port)?;
        self.namespace.iter().try_for_each(|namespace| write!(f, "/{namespace}"))
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            let form = "lethe://host:port/namespace, of which port and namespace may be left out";
            Error::Address(format!("'{text}' is no address: {why}; give {form}"))
        };
        let rest = match text.split_once("://") {
            Some(("lethe" | "redis", rest)) => rest,
            Some(("rediss" | "lethes", _)) => return Err(wrong("there is no TLS yet")),
            Some(_) => return Err(wrong("its scheme is unknown")),
            None => text,
        };
        let (place, namespace) = match rest.split_once('/') {
            Some((place, namespace)) => (place, Some(namespace.to_owned())),
            None => (rest, None),
        };
        if place.contains('@') {
            return Err(wrong("there are no users yet"));
        }
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => {
                (host, Some(port.strip_prefix(':').ok_or_else(|| wrong("its port is none"))?))
            }
            None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port =
            port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong("its port is none")))?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(wrong("it names no host"));
        }
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        Ok(Self { host: host.to_owned(), port, namespace })
    }
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
            ("rediss://a", "TLS"),
            ("http://a", "scheme"),
            ("u:p@a", "users"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
