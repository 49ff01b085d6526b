//! Taking a request apart: strictly, and within bounds.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::fault::Fault;

/// Bytes of a form.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are read of a form that is too large, so that its sender gets to read why.
const DRAIN_BYTES_MAX: usize = 512 * 1024;

/// How long a form may take to come.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Fields of a form or a query.
const FIELDS_MAX: usize = 32;

/// What may stand in a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a browser says that a request comes from.
pub(super) const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The fields of a query or a form.
#[derive(Default)]
pub(super) struct Fields(Vec<(String, String)>);

/// Without the values, of which one may be a password.
impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Fields {
    /// Takes `a=b&c=d` apart.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if fields.len() == FIELDS_MAX {
                return Err(Fault::bad(format!("There are more than {FIELDS_MAX} fields.")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(Fault::bad("A field is given twice."));
            }
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    /// A field that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let field = self.0.iter().find(|(other, _)| other == name);
        field.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Fault> {
        self.get(name).ok_or_else(|| Fault::bad(format!("The field '{name}' is missing.")))
    }

    /// Whether a box is ticked.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

fn decode(text: &str) -> Result<String, Fault> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| Fault::bad("A field is not in UTF-8."))?;
    if decoded.chars().any(char::is_control) {
        return Err(Fault::bad("A field has a control character in it."));
    }
    Ok(decoded.into_owned())
}

/// The address of a page with these fields; empty ones are left out.
pub(super) fn address(page: &str, fields: &[(&str, &str)]) -> String {
    let mut address = super::ROOT.to_owned();
    if !page.is_empty() {
        address.push('/');
        address.push_str(page);
    }
    let mut mark = '?';
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        address.push(mark);
        address.push_str(name);
        address.push('=');
        address.extend(utf8_percent_encode(value, PLAIN));
        mark = '&';
    }
    address
}

/// Where to go on that a form names: a place in the console, never another site.
pub(super) fn back(form: &Fields) -> &str {
    let is_ours = |back: &&str| {
        let rest = back.strip_prefix(super::ROOT);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?'])) && back.is_ascii()
    };
    form.get("back").filter(is_ours).unwrap_or(super::ROOT)
}

/// The one value of a field of the head, as text.
pub(super) fn head<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Fault> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Fault::bad(format!("'{name}' is given twice.")));
    }
    value.to_str().map(Some).map_err(|_| Fault::bad(format!("'{name}' is not plain text.")))
}

/// Whether the node was called by a name that no stranger can own: a page of his that calls this
/// machine by his name would be of the same origin as the console.
pub(super) fn is_host_ours(headers: &HeaderMap) -> Result<bool, Fault> {
    let Some(host) = head(headers, &HOST)? else { return Ok(false) };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.split(':').next().unwrap_or_default(),
    };
    Ok(name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

/// Refuses a form that another site sends.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Fault> {
    let elsewhere = || {
        let text = "The form came from another site. Nothing was changed.";
        Err(Fault::forbidden("Not from here", text))
    };
    if head(headers, &SITE)?.is_some_and(|site| site != "same-origin") {
        return elsewhere();
    }
    let Some(origin) = head(headers, &ORIGIN)? else { return Ok(()) };
    let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    match (from, head(headers, &HOST)?) {
        (Some(from), Some(host)) if from.eq_ignore_ascii_case(host) => Ok(()),
        _ => elsewhere(),
    }
}

/// The form that a request carries.
pub(super) async fn form(headers: &HeaderMap, body: Body) -> Result<Fields, Fault> {
    let kind = head(headers, &CONTENT_TYPE)?.unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Fault::wrong_kind());
    }
    let length = head(headers, &CONTENT_LENGTH)?.and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length > DRAIN_BYTES_MAX) {
        return Err(Fault::too_large(FORM_BYTES_MAX));
    }
    let read = tokio::time::timeout(FORM_TIMEOUT, axum::body::to_bytes(body, DRAIN_BYTES_MAX));
    let bytes = match read.await {
        Err(_elapsed) => return Err(Fault::too_slow()),
        // A connection that breaks has nobody left to read why.
        Ok(Err(_)) => return Err(Fault::too_large(FORM_BYTES_MAX)),
        Ok(Ok(bytes)) => bytes,
    };
    if bytes.len() > FORM_BYTES_MAX {
        return Err(Fault::too_large(FORM_BYTES_MAX));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Fault::bad("A form is text."))?;
    Fields::parse(text)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn host(name: &'static str) -> bool {
        let headers = [(HOST, HeaderValue::from_static(name))].into_iter().collect();
        is_host_ours(&headers).unwrap()
    }

    #[test]
    fn only_names_that_nobody_else_can_own_are_answered() {
        for name in ["localhost", "LOCALHOST:9484", "127.0.0.1:9484", "[::1]:9484", "10.0.0.7"] {
            assert!(host(name), "{name}");
        }
        for name in
            ["lethe.example", "localhost.example:9484", "127.0.0.1.example", "", "[::1", "a:1"]
        {
            assert!(!host(name), "{name}");
        }
        assert!(!is_host_ours(&HeaderMap::new()).unwrap());
    }

    fn from(fields: &[(&'static str, &'static str)]) -> bool {
        let headers = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        check_origin(&headers.collect()).is_ok()
    }

    #[test]
    fn a_form_of_another_origin_is_refused() {
        let host = ("host", "127.0.0.1:9484");
        assert!(from(&[host]));
        assert!(from(&[host, ("origin", "http://127.0.0.1:9484")]));
        assert!(from(&[host, ("sec-fetch-site", "same-origin")]));
        for origin in ["null", "http://127.0.0.1", "http://127.0.0.1:80", "file://", "http://evil"]
        {
            assert!(!from(&[host, ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "none"] {
            assert!(!from(&[host, ("sec-fetch-site", site)]), "{site}");
        }
    }

    #[test]
    fn fields_are_read_strictly_and_written_so_that_they_read_back() {
        let fields = Fields::parse("a=1&b=x+y%26&c=&d").unwrap();
        assert_eq!((fields.get("a"), fields.get("b")), (Some("1"), Some("x y&")));
        assert_eq!((fields.get("c"), fields.get("d"), fields.get("e")), (None, None, None));
        for wrong in ["a=%ff", "a=%c0%ae", "a=%00", "a=1&a=2", "a=%0d%0aSet-Cookie:x"] {
            assert!(Fields::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Fields::parse(&"x&".repeat(2)).is_err());
        let many: Vec<String> = (0..40).map(|n| format!("f{n}=1")).collect();
        assert!(Fields::parse(&many.join("&")).is_err());
        let hostile = "<script>&\"'=+ ü/../%00";
        let address = address("bucket", &[("name", hostile), ("none", "")]);
        let (page, query) = address.split_once('?').unwrap();
        assert_eq!(page, "/console/bucket");
        assert!(query.is_ascii() && !query.contains(['<', '"', '\'', '&', ' ']));
        assert_eq!(Fields::parse(query).unwrap().get("name"), Some(hostile));
    }
}
