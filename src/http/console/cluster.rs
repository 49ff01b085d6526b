//! Members and shards.

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::page::{Live, Page, Place};
use super::reply::{Row, rows};
use super::show::{self, Column};

/// The columns of members and of shards.
const MEMBER: [Column<'_>; 6] = [
    Column::Text("Member"),
    Column::Text("Status"),
    Column::Number("Last heartbeat"),
    Column::Number("Behind"),
    Column::Number("Clock"),
    Column::Text("Shards"),
];
const SHARD: [Column<'_>; 5] = [
    Column::Number("Shard"),
    Column::Text("Owner"),
    Column::Text("Status"),
    Column::Number("Epoch"),
    Column::Text("Witnessed"),
];

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let cluster = desk.call(["CLUSTER.DESCRIBE"]).await?;
    let members = desk.call(["CLUSTER.MEMBERS"]).await?;
    let shards = desk.call(["CLUSTER.SHARDS"]).await?;
    let cluster = Row::of(&cluster);
    let stopped = cluster.maybe("purging_stopped");
    let body = html! {
        div class="head" {
            div { h1 { "Cluster " (cluster.text("cluster")) } p class="sub" { "seen from " (cluster.text("node")) } }
        }
        div data-part="cluster" class="parts" {
            @if let Some(why) = &stopped {
                p class="notice wait" role="status" {
                    strong { "Nothing is purged at the moment" } ": " (show::stopped(desk.now(), why)) ". Restoring works."
                }
            }
            section class="card" aria-label="Figures" {
                dl class="figures" {
                    div { dt { "Store" } dd { (cluster.text("store")) } }
                    div { dt { "Members" } dd { (cluster.text("members")) } }
                    div { dt { "Shards" } dd { (cluster.text("shards")) } }
                    div {
                        dt { "Purging" }
                        dd {
                            @if stopped.is_some() { (show::badge("wait", "stopped")) }
                            @else { (show::badge("good", "runs")) }
                        }
                    }
                    div { dt { "Journal head" } dd { code { (cluster.text("journal_head")) } } }
                }
            }
            (member_table(&rows(&members)))
            (shard_table(&rows(&shards)))
        }
    };
    Ok(Page::new(Place::Cluster, "Cluster", body).live(Live::Moving))
}

fn member_table(members: &[Row<'_>]) -> Markup {
    html! {
        section class="card" aria-labelledby="members" {
            header { h2 id="members" { "Members" } }
            (show::table("Members of the cluster", &MEMBER, &html! {
                tbody {
                    @for row in members {
                        tr {
                            th scope="row" {
                                span class="name" { (row.text("node")) }
                                @if row.text("address") != row.text("node") { span class="under" { (row.text("address")) } }
                            }
                            td data-label="Status" {
                                @if row.text("status") == "alive" { (show::badge("good", "alive")) }
                                @else { (show::badge("bad", "silent")) }
                            }
                            td class="number" data-label="Last heartbeat" { (heard(row.number("last_seen_ms").unwrap_or(0))) }
                            td class="number" data-label="Behind" {
                                (show::counted(row.number("behind").unwrap_or(0), "event", "events"))
                            }
                            td class="number" data-label="Clock" {
                                @match row.number("clock_offset_ms") {
                                    Some(offset) => { (clock(offset)) }
                                    None => { (show::unknown()) }
                                }
                            }
                            td class="long" data-label="Shards" { span { (row.texts("shards").join(", ")) } }
                        }
                    }
                }
            }))
        }
    }
}

/// To the second: heartbeats come several times in one.
fn heard(milliseconds: i64) -> String {
    if milliseconds < 2_000 {
        "just now".to_owned()
    } else {
        format!("{} ago", show::span(milliseconds))
    }
}

/// How a clock differs from the cluster's; what is below a tenth of a second is nothing.
fn clock(offset: i64) -> String {
    let tenths = offset / 100;
    if tenths == 0 {
        return "exact".to_owned();
    }
    let sign = if tenths > 0 { "+" } else { "-" };
    format!("{sign}{}.{} s", tenths.abs() / 10, tenths.abs() % 10)
}

fn shard_table(shards: &[Row<'_>]) -> Markup {
    html! {
        section class="card" aria-labelledby="shards" {
            header { h2 id="shards" { "Shards" } }
            (show::table("Shards and their owners", &SHARD, &html! {
                tbody {
                    @for row in shards {
                        tr {
                            td class="number" data-label="Shard" { (row.text("shard")) }
                            td class="long" data-label="Owner" { span { (row.text("node")) } }
                            td data-label="Status" {
                                @if row.text("status") == "owned" { (show::badge("good", "owned")) }
                                @else { (show::badge("bad", "without an owner")) }
                            }
                            td class="number" data-label="Epoch" { (show::number(row.number("epoch").unwrap_or(0))) }
                            td data-label="Witnessed" { code { (row.text("witnessed")) } }
                        }
                    }
                }
            }))
        }
    }
}
