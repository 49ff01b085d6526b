//! What is wrong with a request, as a page that says so.

use axum::http::StatusCode;

/// A message as a sentence begins.
fn capitalized(message: &str) -> String {
    let mut rest = message.chars();
    let first = rest.next().into_iter().flat_map(char::to_uppercase);
    first.chain(rest.clone()).collect()
}

/// The code of the error that nobody has logged in.
const NO_LOGIN: &str = "NOAUTH";

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) text: String,
    /// The code of a command's error.
    pub(super) code: Option<String>,
    /// What a method that is not allowed could have been.
    pub(super) allow: Option<&'static str>,
}

impl Fault {
    fn new(status: StatusCode, title: &'static str, text: impl Into<String>) -> Self {
        Self { status, title, text: text.into(), code: None, allow: None }
    }

    /// What the client sent makes no sense.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "This request makes no sense", text)
    }

    pub(super) fn no_page() -> Self {
        let text = "There is no such page. The console begins with the overview.";
        Self::new(StatusCode::NOT_FOUND, "No such page", text)
    }

    pub(super) fn not_found(title: &'static str, text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, title, text)
    }

    pub(super) fn method(allow: &'static str) -> Self {
        let text = format!("This page takes {allow} only.");
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", text)
        }
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        let text = format!("A form has at most {} KiB. Nothing was changed.", bytes_max / 1024);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "The form is too large", text)
    }

    pub(super) fn too_slow() -> Self {
        let text = "The form did not arrive in time. Nothing was changed.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "The form came too slowly", text)
    }

    pub(super) fn wrong_kind() -> Self {
        let text = "Only forms of this console are taken. Nothing was changed.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "This is not a form", text)
    }

    pub(super) fn wrong_host() -> Self {
        let text = "Without a password the console answers under an address or as localhost only, \
                    so that no other site can take its place.";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "Not under this name", text)
    }

    /// Nobody has logged in, or not any more.
    pub(super) fn log_in_first() -> Self {
        let text = "You have not logged in, or your session has ended. Nothing was changed.";
        Self {
            code: Some(NO_LOGIN.to_owned()),
            ..Self::new(StatusCode::UNAUTHORIZED, "Log in first", text)
        }
    }

    /// Whether logging in may help.
    pub(super) fn wants_login(&self) -> bool {
        self.is(NO_LOGIN)
    }

    pub(super) fn forbidden(title: &'static str, text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, title, text)
    }

    pub(super) fn gone_connection() -> Self {
        let text = "The connection was ended by an administrator.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Ended", text)
    }

    /// What a command answered, `CODE message`.
    pub(super) fn command(line: &str) -> Self {
        let (code, message) = line.split_once(' ').unwrap_or((line, ""));
        let (status, title) = match code {
            "NOPERM" => (StatusCode::FORBIDDEN, "You may not do this"),
            "NOAUTH" => return Self::log_in_first(),
            "WRONGPASS" => {
                let text = "The name or the password is wrong, or the user is switched off.";
                return Self::forbidden("Not logged in", text);
            }
            "NOSUCHBUCKET" => (StatusCode::NOT_FOUND, "No such bucket"),
            "NOSUCHNAMESPACE" => (StatusCode::NOT_FOUND, "No such namespace"),
            "NOSUCHREMOVAL" => (StatusCode::NOT_FOUND, "No such removal"),
            "BUCKETBEINGREMOVED" => (StatusCode::GONE, "This bucket was removed"),
            "NAMESPACEBEINGREMOVED" => (StatusCode::GONE, "This namespace was removed"),
            "ERR" if message.starts_with("too many ") && message.contains("try again ") => {
                (StatusCode::TOO_MANY_REQUESTS, "Not so fast")
            }
            "ERR" if message.starts_with("server is ") => {
                (StatusCode::SERVICE_UNAVAILABLE, "Not at the moment")
            }
            "ERR" if message.starts_with("the command failed") => {
                (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong")
            }
            "ERR" => (StatusCode::BAD_REQUEST, "This can't be done"),
            "STOREUNAVAILABLE"
            | "STORESTOPPED"
            | "TRYAGAIN"
            | "TRANSACTION_TIMED_OUT"
            | "TIMED_OUT" => (StatusCode::SERVICE_UNAVAILABLE, "Not at the moment"),
            "STOREDAMAGED" => (StatusCode::INTERNAL_SERVER_ERROR, "The store is damaged"),
            _ => (StatusCode::CONFLICT, "This can't be done now"),
        };
        let text = capitalized(if message.is_empty() { code } else { message });
        Self { code: Some(code.to_owned()), ..Self::new(status, title, text) }
    }

    /// What is wrong, with a full stop.
    pub(super) fn sentence(&self) -> String {
        format!("{}.", self.text.trim_end_matches('.'))
    }

    /// Whether a command was refused with this code.
    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}
