//! The overview: how the cluster is, what was removed last, and all namespaces and buckets.

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::namespace::{self, Bucket, Held};
use super::page::{Live, Page, Place};
use super::removal::Removal;
use super::reply::{Row, paged, rows, texts};
use super::request::address;
use super::{bin, show};

/// Removals shown here; the bin has all.
const REMOVED_MAX: usize = 5;

/// Namespaces and buckets shown on one page. Whoever has more opens a namespace.
const NAMESPACES_MAX: usize = 50;
const BUCKETS_MAX: usize = 200;

/// Namespaces with their buckets, as many as a page takes.
pub(super) struct Walk {
    pub(super) namespaces: Vec<Listed>,
    /// There are more than are shown.
    pub(super) is_cut: bool,
}

/// A namespace and what is in it.
pub(super) struct Listed {
    pub(super) path: String,
    pub(super) buckets: Vec<Bucket>,
    /// `None` where the visitor may not see it.
    pub(super) removed: Option<Held>,
}

/// Walks over the namespaces, each with its buckets, in the order of their paths.
pub(super) async fn walk(desk: &mut Desk) -> Result<Walk, Fault> {
    let top = desk.call(["NAMESPACE", "LIST"]).await?;
    let mut waiting: Vec<String> = texts(&top).into_iter().rev().map(Into::into).collect();
    let mut walk = Walk { namespaces: Vec::new(), is_cut: false };
    let mut room = BUCKETS_MAX;
    while let Some(path) = waiting.pop() {
        if walk.namespaces.len() == NAMESPACES_MAX || room == 0 {
            walk.is_cut = true;
            break;
        }
        // What was removed meanwhile, or may not be seen, is passed over.
        let children = match desk.call(["NAMESPACE", "LIST", &path]).await {
            Ok(children) => children,
            Err(fault) if namespace::is_passed_over(&fault) => continue,
            Err(fault) => return Err(fault),
        };
        waiting.extend(texts(&children).into_iter().rev().map(|name| format!("{path}.{name}")));
        let (buckets, more) = match namespace::buckets(desk, &path, room, "").await {
            Ok(found) => found,
            Err(fault) if namespace::is_passed_over(&fault) => continue,
            Err(fault) => return Err(fault),
        };
        walk.is_cut |= more.is_some();
        room -= buckets.len();
        let removed = namespace::removed(desk, &path).await?;
        walk.namespaces.push(Listed { path, buckets, removed });
    }
    Ok(walk)
}

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let cluster = desk.look(["CLUSTER.DESCRIBE"]).await?;
    let members = desk.look(["CLUSTER.MEMBERS"]).await?;
    let jobs = desk.look(["PURGE.STATUS"]).await?;
    let walk = walk(desk).await?;
    let newest = newest(desk, &walk).await?;
    let jobs = jobs.as_ref().map(rows);
    let body = html! {
        div class="head" { h1 { "Overview" } }
        div data-part="state" class="parts" {
            @if let Some(cluster) = &cluster {
                (state(Row::of(cluster), members.as_ref().map(rows).as_deref(), jobs.as_deref(), desk.now()))
            }
            @if let Some(newest) = &newest { (recent(newest)) }
            (namespaces(&walk))
        }
    };
    Ok(Page::new(Place::Overview, "Overview", body).live(Live::Events))
}

/// What was removed last, as far as the visitor may see it; `None` where he may see nothing of it.
async fn newest(desk: &mut Desk, walk: &Walk) -> Result<Option<Markup>, Fault> {
    let count = REMOVED_MAX.to_string();
    let all = ["BUCKET.REMOVED", "NAMESPACE", "*", "ORDER", "NEWEST", "COUNT", &count];
    let removals: Vec<Removal> = if let Some(reply) = desk.look(all).await? {
        rows(paged(&reply).0).into_iter().map(Removal::of).collect()
    } else {
        let paths = walk.namespaces.iter().map(|listed| listed.path.as_str());
        let Some(found) = bin::gather(desk, paths, &["COUNT", &count]).await? else {
            return Ok(None);
        };
        found.removals.into_iter().take(REMOVED_MAX).collect()
    };
    if removals.is_empty() {
        return Ok(Some(show::empty(
            "Nothing is removed",
            "What is removed shows up here and can be brought back.",
        )));
    }
    let now = desk.now();
    bin::table(desk, &removals, now).await.map(Some)
}

fn state(
    cluster: Row<'_>,
    members: Option<&[Row<'_>]>,
    jobs: Option<&[Row<'_>]>,
    now: i64,
) -> Markup {
    let stopped = cluster.maybe("purging_stopped");
    html! {
        @if let Some(why) = &stopped {
            p class="notice wait" role="status" {
                strong { "Nothing is purged at the moment" } ": " (show::stopped(now, why)) ". Restoring works."
            }
        }
        section class="card" aria-label="State" {
            dl class="figures" {
                div { dt { "Cluster" } dd { (cluster.text("cluster")) small { (cluster.text("store")) " store" } } }
                @if let Some(members) = members {
                    @let alive = members.iter().filter(|row| row.text("status") == "alive").count();
                    div {
                        dt { "Members" }
                        dd {
                            a href=(address("cluster", &[])) { (alive) " of " (members.len()) " alive" }
                            small { "this is " (cluster.text("node")) }
                        }
                    }
                }
                div {
                    dt { "Purging" }
                    dd {
                        @if stopped.is_some() { (show::badge("wait", "stopped")) }
                        @else { (show::badge("good", "runs")) }
                    }
                }
                @if let Some(jobs) = jobs {
                    div {
                        dt { "Being reclaimed" }
                        dd { a href=(address("reclaim", &[])) { (show::counted(count(jobs), "object", "objects")) } }
                    }
                }
            }
        }
    }
}

fn count(rows: &[Row<'_>]) -> i64 {
    i64::try_from(rows.len()).unwrap_or(i64::MAX)
}

fn recent(newest: &Markup) -> Markup {
    html! {
        section class="card" aria-labelledby="recent" {
            header {
                h2 id="recent" { "Removed last" }
                p { a href=(address("bin", &[])) { "All of the recycle bin" } }
            }
            (newest)
        }
    }
}

fn namespaces(walk: &Walk) -> Markup {
    let may_see = walk.namespaces.iter().any(|listed| listed.removed.is_some());
    let columns = namespace::columns(may_see.then_some("Removed"));
    html! {
        section class="card" aria-labelledby="namespaces" {
            header {
                h2 id="namespaces" { "Namespaces and buckets" }
                @if walk.is_cut { p { "There are more: open a namespace to see all of it." } }
            }
            @if walk.namespaces.is_empty() {
                (show::empty("No namespace to show", "The first bucket that is created brings the first one; you see those that you may read."))
            } @else {
                (show::table("Namespaces with their buckets", &columns, &html! {
                    @for listed in &walk.namespaces {
                        tbody {
                            (group(listed, may_see))
                            @for bucket in &listed.buckets { (namespace::bucket_row(&listed.path, bucket)) }
                        }
                    }
                }))
            }
        }
    }
}

fn group(listed: &Listed, may_see: bool) -> Markup {
    let documents: i64 = listed.buckets.iter().map(|bucket| bucket.documents).sum();
    let bytes: i64 = listed.buckets.iter().map(|bucket| bucket.bytes).sum();
    html! {
        tr class="group" {
            th scope="rowgroup" { (show::namespace_link(&listed.path)) }
            td class="number" data-label="Documents" { (show::number(documents)) }
            td class="number" data-label="Size" { (show::size(bytes)) }
            td class="number" data-label="Deleted" { }
            @if may_see { td data-label="Removed" { @if let Some(removed) = &listed.removed { (removed.link(&listed.path)) } } }
        }
    }
}
