//! Replicas of all buckets, and how far behind each is.

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::namespace::is_passed_over;
use super::page::{Live, Page, Place};
use super::reply::{Row, rows};
use super::show::Column;
use super::{overview, show};
use crate::resp::Reply;

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let walk = overview::walk(desk).await?;
    let mut found: Vec<(&str, &str, Reply)> = Vec::new();
    for listed in &walk.namespaces {
        for bucket in &listed.buckets {
            desk.enter(&listed.path);
            match desk.call(["BUCKET.REPLICA", "LIST", &bucket.name]).await {
                Ok(reply) if rows(&reply).is_empty() => {}
                Ok(reply) => found.push((&listed.path, &bucket.name, reply)),
                Err(fault) if is_passed_over(&fault) => {}
                Err(fault) => return Err(fault),
            }
        }
    }
    let now = desk.now();
    let body = html! {
        div class="head" {
            div {
                h1 { "Replicas" }
                p class="sub" { "Readers of change logs. What a live one has not read yet is not purged." }
            }
        }
        section class="card" aria-labelledby="lag" {
            header {
                h2 id="lag" { "Replicas and their lag" }
                @if walk.is_cut { p { "There are more buckets than are looked at here: the page of a bucket shows its replicas." } }
            }
            div data-part="replicas" {
                @if found.is_empty() {
                    (show::empty("No replicas", "A replica registers with BUCKET.REPLICA REGISTER, or by lethe replicate."))
                } @else {
                    (show::table("Replicas of all buckets", &columns(true), &html! {
                        tbody {
                            @for (path, bucket, reply) in &found {
                                @for row in rows(reply) { (table_row(Some((path, bucket)), row, now)) }
                            }
                        }
                    }))
                }
            }
        }
    };
    Ok(Page::new(Place::Replicas, "Replicas", body).live(Live::Moving))
}

/// The columns of a table of replicas, of one bucket or of several.
pub(super) fn columns(with_bucket: bool) -> Vec<Column<'static>> {
    let mut columns = vec![Column::Text("Replica")];
    columns.extend(with_bucket.then_some(Column::Text("Bucket")));
    columns.extend([
        Column::Text("State"),
        Column::Number("Behind"),
        Column::Text("Last acknowledged"),
        Column::Text("Position"),
    ]);
    columns
}

pub(super) fn table_row(of: Option<(&str, &str)>, row: Row<'_>, now: i64) -> Markup {
    let live = row.text("state") == "live";
    html! {
        tr {
            th scope="row" { span class="name" { (row.text("replica")) } }
            @if let Some((path, bucket)) = of {
                td class="long" data-label="Bucket" {
                    span { (show::bucket_link(path, bucket)) span class="under" { "in " (path) } }
                }
            }
            td data-label="State" {
                @if live { (show::badge("good", "live")) } @else { (show::badge("bad", "stale")) }
            }
            td class="number" data-label="Behind" {
                (show::counted(row.number("behind").unwrap_or(0), "change", "changes"))
            }
            td class="narrow" data-label="Last acknowledged" {
                @match row.instant("last_ack_at") {
                    Some(at) => (show::ago(now, Some(at))),
                    None => span class="quiet" { "never" },
                }
            }
            td data-label="Position" { code { (row.text("sequence")) } }
        }
    }
}
