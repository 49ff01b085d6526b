//! Reading what commands answer.

use std::borrow::Cow;

use crate::resp::Reply;

/// One map of a reply, by the names of its fields. What is missing reads as nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a>(&'a [(Reply, Reply)]);

impl<'a> Row<'a> {
    pub(super) fn of(reply: &'a Reply) -> Self {
        match reply {
            Reply::Map(pairs) => Self(pairs),
            _ => Self(&[]),
        }
    }

    pub(super) fn get(&self, field: &str) -> &'a Reply {
        let found = self.0.iter().find(|(key, _)| text(key).as_deref() == Some(field));
        found.map_or(&Reply::Null, |(_, value)| value)
    }

    /// `None` where it is null.
    pub(super) fn maybe(&self, field: &str) -> Option<Cow<'a, str>> {
        text(self.get(field))
    }

    pub(super) fn text(&self, field: &str) -> Cow<'a, str> {
        self.maybe(field).unwrap_or_default()
    }

    pub(super) fn number(&self, field: &str) -> Option<i64> {
        match self.get(field) {
            Reply::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn is_true(&self, field: &str) -> bool {
        matches!(self.get(field), Reply::Boolean(true) | Reply::Integer(1))
    }

    /// When it was or will be, in milliseconds since 1970.
    pub(super) fn instant(&self, field: &str) -> Option<i64> {
        crate::codec::duration::parse_instant(&self.maybe(field)?)
    }

    pub(super) fn row(&self, field: &str) -> Option<Row<'a>> {
        match self.get(field) {
            reply @ Reply::Map(_) => Some(Row::of(reply)),
            _ => None,
        }
    }

    pub(super) fn rows(&self, field: &str) -> Vec<Row<'a>> {
        rows(self.get(field))
    }

    pub(super) fn texts(&self, field: &str) -> Vec<Cow<'a, str>> {
        texts(self.get(field))
    }
}

/// A scalar as text; `None` for null and for what has parts.
pub(super) fn text(reply: &Reply) -> Option<Cow<'_, str>> {
    match reply {
        Reply::Ok => Some("OK".into()),
        Reply::Simple(text) => Some(Cow::Borrowed(text)),
        Reply::Text(text) | Reply::Verbatim(text) => Some(Cow::Borrowed(text)),
        Reply::Bulk(bytes) => Some(String::from_utf8_lossy(bytes)),
        Reply::Integer(number) => Some(number.to_string().into()),
        Reply::Double(number) => Some(number.to_string().into()),
        Reply::Boolean(truth) => Some(truth.to_string().into()),
        _ => None,
    }
}

fn items(reply: &Reply) -> &[Reply] {
    match reply {
        Reply::Array(items) | Reply::Set(items) => items,
        _ => &[],
    }
}

/// The maps of a list.
pub(super) fn rows(reply: &Reply) -> Vec<Row<'_>> {
    items(reply).iter().map(Row::of).collect()
}

/// The scalars of a list.
pub(super) fn texts(reply: &Reply) -> Vec<Cow<'_, str>> {
    items(reply).iter().filter_map(text).collect()
}

/// The items of a page, and where the next one begins, if there is one.
pub(super) fn paged(reply: &Reply) -> (&Reply, Option<String>) {
    match items(reply) {
        [cursor, list] => (list, text(cursor).filter(|cursor| cursor != "0").map(Cow::into_owned)),
        _ => (&Reply::Null, None),
    }
}
