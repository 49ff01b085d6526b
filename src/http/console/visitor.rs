//! Who asks: the cookie of a browser, and the token that its forms carry.
//!
//! The token is made of the cookie and a secret of this process. A page of another site can make a
//! browser send a form, but can't read the token; and the cookie is not sent along with such a form.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use sha2::{Digest, Sha256};

use super::fault::Fault;
use super::request::{Fields, SITE};
use crate::command::Services;
use crate::http::serve::Peer;

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
#[derive(Debug)]
pub(super) struct Visitor {
    /// What its forms have to carry.
    pub(super) token: String,
    pub(super) theme: Option<Theme>,
    /// A cookie that it has to be given.
    pub(super) new_cookie: Option<String>,
    known: bool,
}

impl Visitor {
    /// The one whose cookie this is, or a new one.
    pub(super) fn of(headers: &HeaderMap, secret: &Secret) -> Result<Self, Fault> {
        let theme = cookie(headers, THEME)?.as_deref().and_then(Theme::named);
        let cookie = cookie(headers, VISITOR)?.filter(|cookie| is_random(cookie));
        let known = cookie.is_some();
        let cookie = cookie.unwrap_or_else(|| hex(&rand::random::<[u8; RANDOM_BYTES]>()));
        let token = secret.token(&cookie);
        let new_cookie = (!known).then(|| {
            format!("{VISITOR}={cookie}; Path={}; HttpOnly; SameSite=Strict", super::ROOT)
        });
        Ok(Self { token, theme, new_cookie, known })
    }

    /// Refuses a form that was not made for this visitor.
    pub(super) fn check_token(&self, form: &Fields) -> Result<(), Fault> {
        // Both are hashed again, so that the time to compare them tells nothing of where they differ.
        let sent = Sha256::digest(form.get(TOKEN).unwrap_or_default().as_bytes());
        if self.known && sent == Sha256::digest(self.token.as_bytes()) {
            return Ok(());
        }
        let text = "It was made for another session, or before the node was started anew. Go back, \
                    load the page again, and repeat. Nothing was changed.";
        Err(Fault::forbidden("This form is no longer valid", text))
    }
}

fn is_random(cookie: &str) -> bool {
    cookie.len() == RANDOM_BYTES * 2 && cookie.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn cookie(headers: &HeaderMap, name: &str) -> Result<Option<String>, Fault> {
    for value in headers.get_all(COOKIE) {
        let text = value.to_str().map_err(|_| Fault::bad("The cookies are not plain text."))?;
        for pair in text.split(';') {
            if let Some((found, value)) = pair.trim().split_once('=')
                && found == name
            {
                return Ok(Some(value.to_owned()));
            }
        }
    }
    Ok(None)
}

/// The theme that was chosen, also where nothing else of a request makes sense.
pub(super) fn theme(headers: &HeaderMap) -> Option<Theme> {
    cookie(headers, THEME).ok().flatten().as_deref().and_then(Theme::named)
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

/// Without a login the console is open to the machine itself only.
pub(super) fn check_peer(_: &Services, peer: Peer) -> Result<(), Fault> {
    if peer.address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let text = "The console asks for no login, so it is open on the machine itself only. \
                Reach the node through a tunnel.";
    Err(Fault::forbidden("Only on the machine itself", text))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(cookie: &str) -> HeaderMap {
        [(COOKIE, HeaderValue::from_str(cookie).unwrap())].into_iter().collect()
    }

    #[test]
    fn a_token_is_good_for_its_own_cookie_and_process_only() {
        let secret = Secret::random();
        let new = Visitor::of(&HeaderMap::new(), &secret).unwrap();
        let set = new.new_cookie.clone().unwrap();
        let pair = set.split(';').next().unwrap();
        let form = Fields::parse(&format!("token={}", new.token)).unwrap();
        assert!(new.check_token(&form).is_err(), "without its cookie");
        assert!(Visitor::of(&with(pair), &secret).unwrap().check_token(&form).is_ok());
        assert!(Visitor::of(&with(pair), &Secret::random()).unwrap().check_token(&form).is_err());
        let other = format!("{VISITOR}={}", "ab".repeat(32));
        assert!(Visitor::of(&with(&other), &secret).unwrap().check_token(&form).is_err());
        let none = Fields::default();
        assert!(Visitor::of(&with(pair), &secret).unwrap().check_token(&none).is_err());
    }

    #[test]
    fn cookies_that_are_not_ours_are_as_good_as_none() {
        let secret = Secret::random();
        for cookie in
            ["lethe_visitor=", "lethe_visitor", "=;;=", "lethe_visitor=zz", "x=y; lethe_theme=<"]
        {
            let visitor = Visitor::of(&with(cookie), &secret).unwrap();
            assert!(visitor.new_cookie.is_some() && visitor.theme.is_none(), "{cookie}");
        }
        let raw = HeaderValue::from_bytes(b"lethe_visitor=\xff").unwrap();
        assert!(Visitor::of(&[(COOKIE, raw)].into_iter().collect(), &secret).is_err());
        assert_eq!(theme(&with("a=b; lethe_theme=dark")), Some(Theme::Dark));
    }
}
