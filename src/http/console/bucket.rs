//! A bucket: what is in it, how it is set, who reads its changes, and what of its name was removed.

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::page::{Live, Page, Place};
use super::removal::Removal;
use super::reply::{Row, paged, rows};
use super::request::address;
use super::{bin, namespace, policy, replicas, show};

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let name = desk.query.required("name")?.to_owned();
    let path = desk.query.get("namespace").unwrap_or(desk.default_namespace()).to_owned();
    desk.enter(&path);
    let described = desk.call(["BUCKET.DESCRIBE", &name]).await?;
    let row = Row::of(&described);
    let earlier = ["BUCKET.REMOVED", &name, "NAMESPACE", &path, "ORDER", "NEWEST", "COUNT", "20"];
    let seen = desk.look(earlier).await?;
    let removals: Vec<Removal> =
        seen.iter().flat_map(|reply| rows(paged(reply).0)).map(Removal::of).collect();
    let now = desk.now();
    let earlier =
        if removals.is_empty() { None } else { Some(bin::table(desk, &removals, now).await?) };
    if row.text("state") == "removed" {
        return Ok(removed_page(&path, &name, seen.is_some(), earlier.as_ref()));
    }
    let readers = desk.look(["BUCKET.REPLICA", "LIST", &name]).await?;
    let may_see_deleted = desk.may(["BUCKET.DELETED", "any"]).await?;
    let number = |field| row.number(field).unwrap_or(0);
    let deleted = address("deleted", &[("namespace", &path), ("bucket", &name)]);
    let body = html! {
        (head(&path, &name, row.is_true("protected")))
        div data-part="bucket" class="parts" {
            section class="card" aria-label="Figures" {
                dl class="figures" {
                    div { dt { "Documents" } dd { (show::number(number("documents"))) } }
                    div { dt { "Size" } dd { (show::size(number("bytes"))) } }
                    div {
                        dt { "Deleted documents" }
                        dd {
                            @if number("tombstones") > 0 && !may_see_deleted { (show::number(number("tombstones"))) }
                            @else if number("tombstones") > 0 {
                                a href=(deleted) { (show::number(number("tombstones"))) }
                                small { "can be brought back" }
                            } @else { "0" }
                        }
                    }
                    div { dt { "Created" } dd { (show::ago(now, row.instant("created_at"))) } }
                }
            }
            @if let Some(copy) = row.row("copy") { (copy_card(copy)) }
            (settings(row))
            @if let Some(readers) = &readers { (readers_card(&rows(readers), now)) }
            @if let Some(earlier) = &earlier {
                section class="card" aria-labelledby="earlier" {
                    header {
                        h2 id="earlier" { "Removed buckets of this name" }
                        p { "They come back under another name, or in place of this one." }
                    }
                    (earlier)
                }
            }
        }
    };
    Ok(Page::new(Place::Overview, name, body).live(Live::Events))
}

fn head(path: &str, name: &str, is_protected: bool) -> Markup {
    html! {
        div class="head" {
            div {
                (namespace::crumbs(&format!("{path}.x")))
                h1 {
                    (name)
                    @if is_protected { " " (show::badge("hold", "protected")) }
                }
                p class="sub" { "bucket in namespace " (path) }
            }
        }
    }
}

/// No active bucket has the name, but one that was removed had it.
fn removed_page(path: &str, name: &str, may_see: bool, earlier: Option<&Markup>) -> Page {
    let body = html! {
        (head(path, name, false))
        div data-part="bucket" class="parts" {
            p class="notice wait" {
                strong { "This bucket was removed." } " It comes back with all its documents when it is restored"
                @if !may_see { ", by somebody who may" } "."
            }
            @if may_see {
                section class="card" aria-labelledby="earlier" {
                    header { h2 id="earlier" { "Removed buckets of this name" } }
                    @if let Some(earlier) = earlier { (earlier) }
                    @else { (show::empty("Not in the bin of this namespace", "It is in a namespace that was removed: restore that.")) }
                }
            }
        }
    };
    Page::new(Place::Overview, name, body).live(Live::Events)
}

fn settings(row: Row<'_>) -> Markup {
    let indexes = row.texts("indexes");
    let shards = row.texts("shards").join(", ");
    html! {
        section class="card" {
            header { h2 { "Settings" } }
            div class="body" {
                dl class="facts" {
                    @if let Some(policy) = row.row("policy") { (policy::facts(policy)) }
                    @if let Some(ttl) = row.row("ttl") {
                        dt { "Time to live" } dd { (ttl.text("after")) " after " code { (ttl.text("field")) } }
                    }
                    dt { "Indexes" }
                    dd { @for (at, index) in indexes.iter().enumerate() { @if at > 0 { ", " } code { (index) } } }
                    dt { "Shards" } dd { (shards) }
                    dt { "Bucket" } dd { code { (row.text("id")) } }
                    dt { "Version" } dd { code { (row.text("version")) } }
                }
            }
        }
    }
}

fn copy_card(copy: Row<'_>) -> Markup {
    html! {
        section class="card" {
            header { h2 { "A copy that follows its source" } }
            div class="body" {
                dl class="facts" {
                    dt { "Source" } dd { (copy.maybe("source").unwrap_or_else(|| copy.text("source_id"))) }
                    dt { "Phase" } dd { (copy.text("phase")) }
                    dt { "Copied" }
                    dd {
                        (show::number(copy.number("done").unwrap_or(0))) " of "
                        (show::documents(copy.number("total").unwrap_or(0)))
                    }
                    dt { "Behind" } dd { (show::counted(copy.number("behind").unwrap_or(0), "change", "changes")) }
                    @if let Some(error) = copy.maybe("last_error") { dt { "Last error" } dd { (error) } }
                }
            }
        }
    }
}

fn readers_card(readers: &[Row<'_>], now: i64) -> Markup {
    html! {
        section class="card" aria-labelledby="replicas" {
            header {
                h2 id="replicas" { "Replicas" }
                p { "What they have not read yet is not purged." }
            }
            @if readers.is_empty() {
                (show::empty("No replica reads this bucket", "A replica that registers shows up here, with its lag."))
            } @else {
                (show::table("Replicas and their lag", &replicas::columns(false), &html! {
                    tbody { @for row in readers { (replicas::table_row(None, *row, now)) } }
                }))
            }
        }
    }
}
