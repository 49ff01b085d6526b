//! A namespace: what is in it, with sizes, live and removed.

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::page::{Live, Page, Place};
use super::policy;
use super::removal::Removal;
use super::reply::{Row, paged, rows, texts};
use super::request::address;
use super::show::{self, Column};

/// Buckets of a page.
const PAGE: usize = 100;

/// Removals of a namespace that are summed.
const SUMMED_MAX: usize = 200;

/// Children named on a page.
const CHILDREN_MAX: &str = "200";

/// A bucket in a list.
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) documents: i64,
    pub(super) bytes: i64,
    tombstones: i64,
    /// The visitor may see the deleted documents.
    may_see_deleted: bool,
    is_protected: bool,
    is_copy: bool,
}

/// What of a namespace waits in the bin.
pub(super) struct Held {
    count: usize,
    bytes: i64,
    is_cut: bool,
}

impl Held {
    /// `2 buckets, 1.2 MB`, as a link to them.
    pub(super) fn link(&self, path: &str) -> Markup {
        if self.count == 0 {
            return html! {};
        }
        let count = i64::try_from(self.count).unwrap_or(i64::MAX);
        let and_more = if self.is_cut { " and more" } else { "" };
        html! {
            a href=(address("bin", &[("namespace", path)])) {
                (show::counted(count, "bucket", "buckets")) (and_more) ", " (show::size_text(self.bytes))
            }
        }
    }
}

/// Whether something is left out of a list: it is gone since, or the visitor may not see it.
pub(super) fn is_passed_over(fault: &Fault) -> bool {
    ["NOPERM", "NOSUCHBUCKET", "BUCKETBEINGREMOVED", "NOSUCHNAMESPACE", "NAMESPACEBEINGREMOVED"]
        .iter()
        .any(|code| fault.is(code))
}

/// Buckets of a namespace with their figures, at most `limit`, and where to go on.
pub(super) async fn buckets(
    desk: &mut Desk,
    path: &str,
    limit: usize,
    cursor: &str,
) -> Result<(Vec<Bucket>, Option<String>), Fault> {
    desk.enter(path);
    let limit = limit.to_string();
    let cursor = if cursor.is_empty() { "0" } else { cursor };
    let reply = desk.call(["BUCKET.LIST", "COUNT", &limit, "CURSOR", cursor]).await?;
    let (list, next) = paged(&reply);
    let may_see_deleted = desk.may(["BUCKET.DELETED", "any"]).await?;
    let mut buckets = Vec::new();
    for name in texts(list) {
        match desk.call(["BUCKET.DESCRIBE", &name]).await {
            Ok(reply) => {
                let row = Row::of(&reply);
                let number = |field| row.number(field).unwrap_or(0);
                buckets.push(Bucket {
                    name: name.into_owned(),
                    documents: number("documents"),
                    bytes: number("bytes"),
                    tombstones: number("tombstones"),
                    may_see_deleted,
                    is_protected: row.is_true("protected"),
                    is_copy: row.text("state") == "copying",
                });
            }
            Err(fault) if is_passed_over(&fault) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok((buckets, next))
}

/// What waits in the bin, of buckets directly in a namespace.
/// `None` where the visitor may not see it.
pub(super) async fn removed(desk: &mut Desk, path: &str) -> Result<Option<Held>, Fault> {
    let limit = SUMMED_MAX.to_string();
    let reply = match desk.look(["BUCKET.REMOVED", "NAMESPACE", path, "COUNT", &limit]).await {
        Ok(Some(reply)) => reply,
        Ok(None) => return Ok(None),
        Err(fault) if is_passed_over(&fault) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let (list, next) = paged(&reply);
    let removals: Vec<Removal> = rows(list).into_iter().map(Removal::of).collect();
    let waiting = removals.iter().filter(|removal| !removal.is_purging);
    Ok(Some(Held {
        count: waiting.clone().count(),
        bytes: waiting.filter_map(|removal| removal.bytes).sum(),
        is_cut: next.is_some(),
    }))
}

/// The columns of a table of buckets, and of one more where there is one.
pub(super) fn columns(one_more: Option<&'static str>) -> Vec<Column<'static>> {
    let columns = [
        Column::Text("Name"),
        Column::Number("Documents"),
        Column::Number("Size"),
        Column::Number("Deleted documents"),
    ];
    columns.into_iter().chain(one_more.map(Column::Text)).collect()
}

pub(super) fn bucket_row(path: &str, bucket: &Bucket) -> Markup {
    html! {
        tr {
            th scope="row" {
                (show::bucket_link(path, &bucket.name))
                @if bucket.is_protected { " " (show::badge("hold", "protected")) }
                @if bucket.is_copy { " " (show::badge("wait", "copy")) }
            }
            td class="number" data-label="Documents" { (show::number(bucket.documents)) }
            td class="number" data-label="Size" { (show::size(bucket.bytes)) }
            td class="number" data-label="Deleted" {
                @if bucket.tombstones > 0 && !bucket.may_see_deleted { (show::number(bucket.tombstones)) }
                @else if bucket.tombstones > 0 {
                    a href=(address("deleted", &[("namespace", path), ("bucket", &bucket.name)])) {
                        (show::number(bucket.tombstones))
                    }
                } @else { span class="quiet" { "0" } }
            }
        }
    }
}

/// The namespaces on the way to this one, as links.
pub(super) fn crumbs(path: &str) -> Markup {
    let ends = path.match_indices('.').map(|(at, _)| at);
    let above: Vec<&str> = ends.filter_map(|at| path.get(..at)).collect();
    html! {
        p class="crumbs" {
            a href=(address("", &[])) { "Overview" }
            @for path in above {
                " / " a href=(address("namespace", &[("name", path)])) { (path.rsplit('.').next().unwrap_or(path)) }
            }
        }
    }
}

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let path = desk.query.required("name")?.to_owned();
    let cursor = desk.query.get("cursor").unwrap_or_default().to_owned();
    let described = desk.call(["NAMESPACE", "DESCRIBE", &path]).await?;
    let described = Row::of(&described);
    if described.text("state") == "removed" {
        let text = format!("The namespace '{path}' was removed, with all that is in it.");
        return Err(Fault::command(&format!("NAMESPACEBEINGREMOVED {text}")));
    }
    let children = desk.call(["NAMESPACE", "LIST", &path, "COUNT", CHILDREN_MAX]).await?;
    let (children, more_children) = paged(&children);
    let children = texts(children);
    let (buckets, next) = buckets(desk, &path, PAGE, &cursor).await?;
    let removed = removed(desk, &path).await?;
    let inside = desk.look(["NAMESPACE", "REMOVED", &path]).await?;
    let gone = inside.as_ref().map(rows).unwrap_or_default().len();
    let now = desk.now();
    let to = |cursor: &str| address("namespace", &[("name", &path), ("cursor", cursor)]);
    let documents: i64 = buckets.iter().map(|bucket| bucket.documents).sum();
    let bytes: i64 = buckets.iter().map(|bucket| bucket.bytes).sum();
    let partial = if next.is_some() || !cursor.is_empty() { "on this page" } else { "" };
    let body = html! {
        div class="head" {
            div {
                (crumbs(&path))
                h1 {
                    (path)
                    @if described.is_true("protected") { " " (show::badge("hold", "protected")) }
                }
                p class="sub" { "namespace" }
            }
        }
        div data-part="namespace" class="parts" {
            section class="card" aria-label="Figures" {
                dl class="figures" {
                    div { dt { "Documents" } dd { (show::number(documents)) small { (partial) } } }
                    div { dt { "Size" } dd { (show::size(bytes)) small { (partial) } } }
                    @if let Some(removed) = &removed {
                        div {
                            dt { "Removed in it" }
                            dd { @if removed.count == 0 { "nothing" } @else { (removed.link(&path)) } }
                        }
                    }
                    div { dt { "Created" } dd { (show::ago(now, described.instant("created_at"))) } }
                }
            }
            @if !children.is_empty() || gone > 0 {
                section class="card" aria-labelledby="children" {
                    header {
                        h2 id="children" { "Namespaces below" }
                        @if gone > 0 {
                            p {
                                a href=(address("bin", &[("kind", "namespaces"), ("namespace", &path)])) {
                                    (show::counted(i64::try_from(gone).unwrap_or(i64::MAX), "removed one", "removed ones"))
                                }
                            }
                        }
                    }
                    div class="body" {
                        ul class="plain" {
                            @for child in &children {
                                li {
                                    a class="name" href=(address("namespace", &[("name", &format!("{path}.{child}"))])) { (child) }
                                }
                            }
                            @if more_children.is_some() { li class="quiet" { "and more" } }
                        }
                    }
                }
            }
            @if let Some(policy) = described.row("policy") {
                section class="card" aria-labelledby="policy" {
                    header { h2 id="policy" { "What applies here" } }
                    div class="body" { dl class="facts" { (policy::facts(policy)) } }
                }
            }
            section class="card" aria-labelledby="buckets" {
                header { h2 id="buckets" { "Buckets" } }
                @if buckets.is_empty() {
                    (show::empty("No bucket here", "A bucket that is created in this namespace shows up here."))
                } @else {
                    (show::table("Buckets of the namespace", &columns(None), &html! {
                        tbody { @for bucket in &buckets { (bucket_row(&path, bucket)) } }
                    }))
                }
                (show::more(
                    &next.as_deref().map(to).unwrap_or_default(),
                    (!cursor.is_empty()).then(|| to("")).as_deref(),
                ))
            }
        }
    };
    Ok(Page::new(Place::Overview, path.clone(), body).live(Live::Events))
}
