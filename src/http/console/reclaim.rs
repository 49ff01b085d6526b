//! Reclaim: what was purged, and how far its bytes have been given back.

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::page::{Live, Page, Place};
use super::reply::{Row, rows};
use super::show::{self, Column};

/// The columns of the table here.
const COLUMNS: [Column<'_>; 8] = [
    Column::Text("Name"),
    Column::Text("Phase"),
    Column::Number("Cleared"),
    Column::Number("Given back"),
    Column::Number("Pending"),
    Column::Number("Rate"),
    Column::Text("Purged"),
    Column::Text("Last error"),
];

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let reply = desk.call(["PURGE.STATUS"]).await?;
    let cluster = desk.look(["CLUSTER.DESCRIBE"]).await?;
    let stopped = cluster.as_ref().and_then(|reply| Row::of(reply).maybe("purging_stopped"));
    let jobs = rows(&reply);
    let now = desk.now();
    let body = html! {
        div class="head" {
            div {
                h1 { "Reclaim" }
                p class="sub" { "What was purged is gone; here its bytes are given back, in small steps." }
            }
        }
        div data-part="jobs" class="parts" {
            @if let Some(why) = &stopped {
                p class="notice wait" role="status" { strong { "Stopped" } ": " (show::stopped(now, why)) "." }
            }
            section class="card" aria-labelledby="jobs" {
                header { h2 id="jobs" { "Under way" } }
                @if jobs.is_empty() {
                    (show::empty("Nothing is being reclaimed", "What is purged shows up here until its bytes are given back."))
                } @else { (table(&jobs, now)) }
            }
        }
    };
    let live = if jobs.is_empty() { Live::Events } else { Live::Moving };
    Ok(Page::new(Place::Reclaim, "Reclaim", body).live(live))
}

fn table(jobs: &[Row<'_>], now: i64) -> Markup {
    html! {
        (show::table("Purged and not yet given back", &COLUMNS, &html! {
            tbody { @for job in jobs { (row(*job, now)) } }
        }))
    }
}

fn row(job: Row<'_>, now: i64) -> Markup {
    let bucket = job.maybe("bucket");
    let (returned, pending) = (job.number("bytes_returned"), job.number("bytes_pending"));
    html! {
        tr {
            th scope="row" {
                span class="name" { (bucket.as_deref().unwrap_or(&job.text("namespace"))) }
                span class="under" {
                    @if bucket.is_some() { "bucket in " (job.text("namespace")) } @else { "namespace" }
                }
            }
            td data-label="Phase" {
                @match job.text("phase").as_ref() {
                    "queued" => (show::badge("wait", "queued")),
                    phase => (show::badge("good", phase)),
                }
                @if let (Some(returned), Some(pending)) = (returned, pending) {
                    @if returned.saturating_add(pending) > 0 {
                        progress value=(returned) max=(returned.saturating_add(pending)) aria-label="Given back" {}
                    }
                }
            }
            td class="number" data-label="Cleared" { (show::maybe_size(job.number("bytes_cleared"))) }
            td class="number" data-label="Given back" { (show::maybe_size(returned)) }
            td class="number" data-label="Pending" { (show::maybe_size(pending)) }
            td class="number" data-label="Rate" {
                @match job.number("rate") {
                    Some(rate) => { (show::size(rate)) "/s" }
                    None => { (show::unknown()) }
                }
            }
            td class="narrow" data-label="Purged" { (show::ago(now, job.instant("purged_at"))) }
            td class="long" data-label="Last error" {
                @match job.maybe("last_error") {
                    Some(error) => span { (error) },
                    None => (show::unknown()),
                }
            }
        }
    }
}
