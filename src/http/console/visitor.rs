//! Who asks: the cookie of a browser, and the token that its forms carry.
//!
//! The token is made of the cookie and a secret of this process. A page of another site can make a
//! browser send a form, but can't read the token; and the cookie is not sent along with such a form.
//! Who logs in gets another cookie, so that one that somebody else put there is worth nothing.

use axum::http::header::{COOKIE, HOST};
use axum::http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

use super::fault::Fault;
use super::request::{Fields, SITE};

const VISITOR: &str = "lethe_visitor";
const THEME: &str = "lethe_theme";

/// The field of a form that holds the token.
pub(super) const TOKEN: &str = "token";

/// Random bytes of a cookie and of the secret.
const RANDOM_BYTES: usize = 32;

/// What the tokens of this process are made with.
pub(super) struct Secret([u8; RANDOM_BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// Both parts are of a fixed length, so that nothing can be appended to what is hashed.
    fn token(&self, cookie: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(Sha256::digest(cookie.as_bytes()));
        hex(&hash.finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string can't fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// Light or dark, where the visitor does not leave it to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    Light,
    Dark,
}

impl Theme {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "light" => Some(Self::Light),
            "dark" => Some(Self::Dark),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// A browser.
pub(super) struct Visitor {
    /// What its forms have to carry.
    pub(super) token: String,
    pub(super) theme: Option<Theme>,
    /// What it proves itself with, whether it has it already or is given it now.
    cookie: String,
    known: bool,
    /// The name of the cookie.
    name: String,
}

/// Without what it proves itself with.
impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitor").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Visitor {
    /// The one whose cookie this is, or a new one.
    pub(super) fn of(headers: &HeaderMap, secret: &Secret) -> Result<Self, Fault> {
        let name = name(headers);
        let theme = cookie(headers, THEME)?.and_then(Theme::named);
        let cookie = cookie(headers, &name)?.filter(|cookie| is_random(cookie));
        let known = cookie.is_some();
        let cookie = cookie.map_or_else(random, str::to_owned);
        let token = secret.token(&cookie);
        Ok(Self { token, theme, cookie, known, name })
    }

    /// The same browser under a cookie that nobody has had.
    pub(super) fn renew(&mut self, secret: &Secret) {
        self.cookie = random();
        self.token = secret.token(&self.cookie);
        self.known = false;
    }

    /// What it proves itself with.
    pub(super) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// What it has to be given, if it does not have it already.
    pub(super) fn new_cookie(&self) -> Option<HeaderValue> {
        if self.known {
            return None;
        }
        let (name, cookie) = (&self.name, &self.cookie);
        let text = format!("{name}={cookie}; Path={}; HttpOnly; SameSite=Strict", super::ROOT);
        HeaderValue::from_str(&text).ok()
    }

    /// Refuses a form that was not made for this visitor.
    pub(super) fn check_token(&self, form: &Fields) -> Result<(), Fault> {
        // Both are hashed again, so that the time to compare them tells nothing of where they differ.
        let sent = Sha256::digest(form.get(TOKEN).unwrap_or_default().as_bytes());
        if self.known && sent == Sha256::digest(self.token.as_bytes()) {
            return Ok(());
        }
        let text = "It was made for another session, or before the node was started anew, or the \
                    browser keeps no cookies. Go back, load the page again, and repeat. Nothing was \
                    changed.";
        Err(Fault::forbidden("This form is no longer valid", text))
    }
}

fn random() -> String {
    hex(&rand::random::<[u8; RANDOM_BYTES]>())
}

fn is_random(cookie: &str) -> bool {
    cookie.len() == RANDOM_BYTES * 2 && cookie.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Browsers send a cookie to all ports of a machine: nodes beside each other have one each.
fn name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.map_or_else(|| VISITOR.to_owned(), |port| format!("{VISITOR}_{port}"))
}

/// The value of a cookie. One that comes twice was put there by somebody else, with a path of its own.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Fault> {
    let mut found = None;
    for value in headers.get_all(COOKIE) {
        let text = value.to_str().map_err(|_| Fault::bad("The cookies are not plain text."))?;
        for pair in text.split(';') {
            if let Some((other, value)) = pair.trim().split_once('=')
                && other == name
                && found.replace(value).is_some()
            {
                return Err(Fault::bad(format!("The cookie '{name}' is given twice.")));
            }
        }
    }
    Ok(found)
}

/// The theme that was chosen, also where nothing else of a request makes sense.
pub(super) fn theme(headers: &HeaderMap) -> Option<Theme> {
    cookie(headers, THEME).ok().flatten().and_then(Theme::named)
}

/// What a browser keeps of the choice of a theme; `None` forgets it.
pub(super) fn theme_cookie(theme: Option<Theme>) -> String {
    let (value, age) = theme.map_or(("", 0), |theme| (theme.name(), 31_536_000));
    format!("{THEME}={value}; Path={}; Max-Age={age}; HttpOnly; SameSite=Strict", super::ROOT)
}

/// Whether a browser came over a link of another site: it keeps the cookies to itself then, and gives
/// them when it is asked to come again.
pub(super) fn came_without_cookies(headers: &HeaderMap) -> bool {
    !headers.contains_key(COOKIE)
        && headers.get(SITE).is_some_and(|site| site == "cross-site" || site == "same-site")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookie: &str) -> HeaderMap {
        let host = HeaderValue::from_static("localhost:9484");
        [(COOKIE, HeaderValue::from_str(cookie).unwrap()), (HOST, host)].into_iter().collect()
    }

    fn of(headers: &HeaderMap, secret: &Secret) -> Visitor {
        Visitor::of(headers, secret).unwrap()
    }

    #[test]
    fn a_token_is_good_for_its_own_cookie_and_process_only() {
        let secret = Secret::random();
        let new = of(&with("a=b"), &secret);
        let set = new.new_cookie().unwrap();
        let (pair, flags) = set.to_str().unwrap().split_once("; ").unwrap();
        assert_eq!(flags, "Path=/console; HttpOnly; SameSite=Strict");
        let form = Fields::parse(&format!("token={}", new.token)).unwrap();
        assert!(new.check_token(&form).is_err(), "without its cookie");
        assert!(of(&with(pair), &secret).check_token(&form).is_ok());
        assert!(of(&with(pair), &Secret::random()).check_token(&form).is_err());
        let other = format!("lethe_visitor_9484={}", "ab".repeat(32));
        assert!(of(&with(&other), &secret).check_token(&form).is_err());
        assert!(of(&with(pair), &secret).check_token(&Fields::default()).is_err());
        let mut renewed = of(&with(pair), &secret);
        renewed.renew(&secret);
        assert!(renewed.token != new.token && renewed.cookie() != new.cookie());
        assert!(renewed.new_cookie().is_some() && renewed.check_token(&form).is_err());
    }

    #[test]
    fn cookies_that_are_not_ours_are_as_good_as_none() {
        let secret = Secret::random();
        let of_another_port = format!("lethe_visitor_9485={}", "ab".repeat(32));
        for cookie in [
            "lethe_visitor_9484=",
            "lethe_visitor_9484",
            "=;;=",
            "lethe_visitor_9484=zz",
            "x=y; lethe_theme=<",
            &of_another_port,
        ] {
            let visitor = of(&with(cookie), &secret);
            assert!(visitor.new_cookie().is_some() && visitor.theme.is_none(), "{cookie}");
        }
        let raw = HeaderValue::from_bytes(b"lethe_visitor=\xff").unwrap();
        assert!(Visitor::of(&[(COOKIE, raw)].into_iter().collect(), &secret).is_err(), "no text");
        let id = "ab".repeat(32);
        let twice = format!("lethe_visitor_9484={id}; lethe_visitor_9484={id}");
        assert!(Visitor::of(&with(&twice), &secret).is_err(), "twice");
        assert_eq!(theme(&with("a=b; lethe_theme=dark")), Some(Theme::Dark));
    }
}
