//! The audit log: who did what, from where, and how it ended.

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::page::{Live, Page, Place};
use super::reply::{Row, paged, rows};
use super::request::address;
use super::show::{self, Column};

/// Rows of a page.
const PAGE: &str = "50";

/// What is asked for: the field of the form, its label, the option of the command.
const FILTERS: [(&str, &str, &str); 4] = [
    ("namespace", "Namespace", "NAMESPACE"),
    ("bucket", "Bucket", "BUCKET"),
    ("by", "User", "BY"),
    ("action", "Action", "ACTION"),
];

/// The columns of the table here.
const COLUMNS: [Column<'_>; 6] = [
    Column::Text("Time"),
    Column::Text("Action"),
    Column::Text("What"),
    Column::Text("Who"),
    Column::Text("Reason"),
    Column::Text("Outcome"),
];

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let asked: Vec<(&str, String)> = FILTERS
        .iter()
        .map(|(field, _, _)| (*field, desk.query.get(field).unwrap_or_default().trim().to_owned()))
        .collect();
    let cursor = desk.query.get("cursor").unwrap_or("0").to_owned();
    let mut words = ["AUDIT.LOG", "COUNT", PAGE, "CURSOR", &cursor].map(str::to_owned).to_vec();
    for ((_, value), (_, _, option)) in asked.iter().zip(FILTERS) {
        if !value.is_empty() {
            words.extend([option.to_owned(), value.clone()]);
        }
    }
    let reply = desk.call(words).await?;
    let (list, next) = paged(&reply);
    let (entries, now) = (rows(list), desk.now());
    let to = |cursor: &str| {
        let mut fields: Vec<(&str, &str)> =
            asked.iter().map(|(field, value)| (*field, value.as_str())).collect();
        fields.push(("cursor", cursor));
        address("audit", &fields)
    };
    let body = html! {
        div class="head" {
            div {
                h1 { "Audit log" }
                p class="sub" { "Each change of what is kept, in the commit that made it; refused attempts are counted." }
            }
        }
        form class="filter" method="get" action=(address("audit", &[])) role="search" {
            @for ((field, value), (_, label, _)) in asked.iter().zip(FILTERS) {
                div class="field" {
                    label for=(field) { (label) }
                    input type="text" id=(field) name=(field) value=(value) placeholder="all";
                }
            }
            button class="button" type="submit" { "Find" }
        }
        section class="card" aria-labelledby="log" {
            header { h2 id="log" { "Newest first" } }
            div data-part="log" {
                @if entries.is_empty() {
                    (show::empty("No entries", "Nothing was removed, restored or purged that is as asked for."))
                } @else { (table(&entries, now)) }
                (show::more(
                    &next.as_deref().map(to).unwrap_or_default(),
                    (cursor != "0").then(|| to("")).as_deref(),
                ))
            }
        }
    };
    Ok(Page::new(Place::Audit, "Audit log", body).live(Live::Events))
}

fn table(entries: &[Row<'_>], now: i64) -> Markup {
    html! {
        (show::table("Entries of the audit log", &COLUMNS, &html! {
            tbody { @for entry in entries { (row(*entry, now)) } }
        }))
    }
}

fn row(entry: Row<'_>, now: i64) -> Markup {
    let (namespace, bucket) = (entry.text("namespace"), entry.maybe("bucket"));
    let times = entry.number("count").unwrap_or(1);
    let outcome = entry.text("outcome");
    html! {
        tr {
            td class="narrow" data-label="Time" { (show::ago(now, entry.instant("time"))) }
            td data-label="Action" {
                span { strong { (entry.text("action")) } @if times > 1 { " × " (show::number(times)) } }
            }
            td class="long" data-label="What" {
                span {
                    @if let Some(bucket) = &bucket {
                        span class="name" { (show::clip(bucket, 80)) }
                        span class="under" { "in " (show::clip(&namespace, 80)) }
                    } @else if namespace.is_empty() { (show::unknown()) }
                    @else { span class="name" { (show::clip(&namespace, 80)) } }
                    @if let Some(removal) = entry.maybe("removal_id") {
                        span class="under" { code { (removal) } }
                    }
                }
            }
            td class="long" data-label="Who" {
                span { (entry.text("user")) span class="under" { (entry.text("client")) } }
            }
            td class="long" data-label="Reason" {
                @match entry.maybe("reason") {
                    Some(reason) => span { (show::clip(&reason, 300)) },
                    None => (show::unknown()),
                }
            }
            td class="long" data-label="Outcome" {
                @if outcome == "OK" { (show::badge("good", "OK")) } @else { (show::badge("bad", &outcome)) }
            }
        }
    }
}
