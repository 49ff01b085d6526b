//! The deleted documents of a bucket, which can be brought back.

use maud::{Markup, html};
use serde_json::Value;

use super::desk::Desk;
use super::fault::Fault;
use super::page::{Live, Page, Place};
use super::reply::{Row, texts};
use super::request::address;
use super::show::Column;
use super::{namespace, show};

/// Entries of a page.
const PAGE: usize = 50;

/// Characters of a document that are shown.
const SHOWN_MAX: usize = 2_000;

/// The columns of the table here.
const COLUMNS: [Column<'_>; 5] = [
    Column::Text("Document"),
    Column::Text("Time left"),
    Column::Text("Deleted"),
    Column::Text("Reason"),
    Column::Does,
];

/// A deleted document.
struct Entry {
    id: Value,
    removal: String,
    deleted_at: Option<i64>,
    expires_at: Option<i64>,
    deleted_by: String,
    reason: Option<String>,
    document: String,
}

impl Entry {
    fn of(text: &str) -> Option<Self> {
        let entry: Value = serde_json::from_str(text).ok()?;
        let text = |field: &str| entry.get(field).and_then(Value::as_str).map(str::to_owned);
        let instant = |field: &str| {
            let text = entry.get(field)?.get("$date")?.as_str()?;
            crate::codec::duration::parse_instant(text)
        };
        Some(Self {
            id: entry.get("_id")?.clone(),
            removal: text("removal_id").unwrap_or_default(),
            deleted_at: instant("deleted_at"),
            expires_at: instant("expires_at"),
            deleted_by: text("deleted_by").unwrap_or_default(),
            reason: text("reason"),
            document: entry.get("document").map(Value::to_string).unwrap_or_default(),
        })
    }

    /// The id as people write it.
    fn name(&self) -> String {
        match &self.id {
            Value::String(text) => text.clone(),
            id => {
                id.get("$oid").and_then(Value::as_str).map_or_else(|| id.to_string(), str::to_owned)
            }
        }
    }
}

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let bucket = desk.query.required("bucket")?.to_owned();
    let path = desk.query.get("namespace").unwrap_or(desk.default_namespace()).to_owned();
    let removal = desk.query.get("removal").unwrap_or_default().to_owned();
    let from = desk.query.get("from").unwrap_or_default().to_owned();
    desk.enter(&path);
    let limit = PAGE.to_string();
    let filter = if from.is_empty() { "{}".to_owned() } else { not_before(&from) };
    let mut words = vec!["BUCKET.DELETED", bucket.as_str(), &filter, "LIMIT", &limit];
    if !removal.is_empty() {
        words.extend(["REMOVAL", removal.as_str()]);
    }
    let reply = desk.call(words).await?;
    let texts = texts(Row::of(&reply).get("entries"));
    let (entries, next) = cut(texts.iter().filter_map(|text| Entry::of(text)).collect());
    let now = desk.now();
    let to = |removal: &str, from: &str| {
        let fields =
            [("namespace", &*path), ("bucket", &bucket), ("removal", removal), ("from", from)];
        address("deleted", &fields)
    };
    let body = html! {
        div class="head" {
            div {
                (namespace::crumbs(&format!("{path}.x")))
                h1 { "Deleted documents of " (bucket) }
                p class="sub" {
                    "in bucket " (show::bucket_link(&path, &bucket)) ", namespace " (path)
                }
            }
            @if !removal.is_empty() && !entries.is_empty() {
                div class="actions" {
                    a class="button primary" href=(undelete(&path, &bucket, &removal, None)) { "Bring all of this removal back…" }
                }
            }
        }
        section class="card" aria-labelledby="deleted" {
            header {
                h2 id="deleted" { "Can be brought back" }
                @if !removal.is_empty() {
                    p { "of removal " code { (removal) } ". " a href=(to("", "")) { "Show all" } }
                }
            }
            div data-part="deleted" {
                @if entries.is_empty() {
                    (show::empty("No deleted documents", "What is deleted from this bucket stays here until its time is over."))
                } @else { (table(&entries, &path, &bucket, now, &to)) }
                (show::more(
                    &next.map(|next| to(&removal, &next)).unwrap_or_default(),
                    (!from.is_empty()).then(|| to(&removal, "")).as_deref(),
                ))
            }
        }
    };
    Ok(Page::new(Place::Overview, format!("Deleted documents of {bucket}"), body)
        .live(Live::Events))
}

/// The filter for what a page begins with.
fn not_before(id: &str) -> String {
    serde_json::json!({ "_id": { "$gte": id } }).to_string()
}

/// A full page ends with the last of an `_id` that is whole on it; the next one begins behind it. Several
/// documents of one `_id` may have been deleted.
fn cut(mut entries: Vec<Entry>) -> (Vec<Entry>, Option<String>) {
    if entries.len() < PAGE {
        return (entries, None);
    }
    let Some(last) = entries.last().map(Entry::name) else { return (entries, None) };
    let whole = entries.iter().take_while(|entry| entry.name() != last).count();
    if whole == 0 {
        return (entries, None);
    }
    entries.truncate(whole);
    (entries, Some(last))
}

fn undelete(path: &str, bucket: &str, removal: &str, id: Option<&str>) -> String {
    let fields = [
        ("namespace", path),
        ("bucket", bucket),
        ("removal", removal),
        ("document", id.unwrap_or_default()),
    ];
    address("undelete", &fields)
}

fn table(
    entries: &[Entry],
    path: &str,
    bucket: &str,
    now: i64,
    to: &impl Fn(&str, &str) -> String,
) -> Markup {
    html! {
        (show::table("Deleted documents", &COLUMNS, &html! {
            tbody {
                @for entry in entries {
                    tr {
                        th scope="row" class="wide" {
                            code class="name" { (entry.name()) }
                            details {
                                summary { "Show it" }
                                pre { code { (show::clip(&entry.document, SHOWN_MAX)) } }
                            }
                        }
                        td class="narrow" data-label="Time left" { (show::left(now, entry.expires_at)) }
                        td class="narrow" data-label="Deleted" {
                            span {
                                (show::ago(now, entry.deleted_at))
                                span class="under" { "by " (entry.deleted_by) }
                                span class="under" {
                                    a href=(to(&entry.removal, "")) { "what went with it" }
                                }
                            }
                        }
                        td class="long" data-label="Reason" {
                            @match &entry.reason {
                                Some(reason) => span { (show::clip(reason, 160)) },
                                None => (show::unknown()),
                            }
                        }
                        td class="does" {
                            a class="button small" href=(undelete(path, bucket, &entry.removal, Some(&entry.name())))
                                aria-label={ "Bring back " (entry.name()) } { "Bring back…" }
                        }
                    }
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: usize, removal: &str) -> Entry {
        Entry::of(&format!(
            "{{\"_id\":\"{id:024x}\",\"removal_id\":\"{removal}\",\"document\":{{}}}}"
        ))
        .unwrap()
    }

    #[test]
    fn a_page_ends_between_two_ids() {
        let few: Vec<Entry> = (0..3).map(|id| entry(id, "r")).collect();
        assert!(cut(few).1.is_none());
        let mut full: Vec<Entry> = (0..PAGE - 1).map(|id| entry(id, "r")).collect();
        full.push(entry(PAGE - 2, "s"));
        let (shown, next) = cut(full);
        assert_eq!(shown.len(), PAGE - 2);
        assert_eq!(next, Some(format!("{:024x}", PAGE - 2)));
        let same: Vec<Entry> = (0..PAGE).map(|_| entry(1, "r")).collect();
        assert_eq!(cut(same).0.len(), PAGE);
    }
}
