//! One removal: what it was, how long it is kept, how far the barrier is, what can be done.

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::page::{Live, Page, Place};
use super::reply::{Row, rows};
use super::request::address;
use super::show;

/// Why nobody may purge it.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) owner: String,
    pub(super) reason: String,
    pub(super) review_at: Option<i64>,
    pub(super) since: Option<i64>,
}

/// A bucket or a namespace that was removed.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    /// The id of the removal.
    pub(super) handle: String,
    pub(super) id: String,
    /// Of a bucket where it was, of a namespace its own path.
    pub(super) namespace: String,
    /// `None`: a namespace.
    pub(super) bucket: Option<String>,
    pub(super) is_purging: bool,
    pub(super) is_restorable: bool,
    pub(super) removed_at: Option<i64>,
    pub(super) removed_by: String,
    pub(super) reason: Option<String>,
    pub(super) expires_at: Option<i64>,
    pub(super) hold: Option<Hold>,
    pub(super) documents: Option<i64>,
    pub(super) bytes: Option<i64>,
    pub(super) witnessed: i64,
    pub(super) shards: i64,
}

impl Removal {
    /// Reads an item of BUCKET.REMOVED or NAMESPACE REMOVED.
    pub(super) fn of(row: Row<'_>) -> Self {
        let hold = row.row("hold").map(|hold| Hold {
            owner: hold.text("owner").into_owned(),
            reason: hold.text("reason").into_owned(),
            review_at: hold.instant("review_at"),
            since: hold.instant("since"),
        });
        Self {
            handle: row.text("removal_id").into_owned(),
            id: row.text("id").into_owned(),
            namespace: row.text("namespace").into_owned(),
            bucket: row.maybe("bucket").map(Into::into),
            is_purging: row.text("state") == "purging",
            is_restorable: row.is_true("restorable"),
            removed_at: row.instant("removed_at"),
            removed_by: row.text("removed_by").into_owned(),
            reason: row.maybe("reason").map(Into::into),
            expires_at: row.instant("expires_at"),
            hold,
            documents: row.number("documents"),
            bytes: row.number("bytes"),
            witnessed: row.number("witnessed").unwrap_or(0),
            shards: row.number("shards").unwrap_or(0),
        }
    }

    /// `bucket` or `namespace`.
    pub(super) const fn kind(&self) -> &'static str {
        if self.bucket.is_some() { "bucket" } else { "namespace" }
    }

    /// What people call it.
    pub(super) fn name(&self) -> &str {
        self.bucket.as_deref().unwrap_or(&self.namespace)
    }

    /// The words of a command on it: `BUCKET.PURGE <id>` or `NAMESPACE PURGE <id>`.
    pub(super) fn command(&self, verb: &str) -> Vec<String> {
        let mut words = match self.bucket {
            Some(_) => vec![format!("BUCKET.{verb}")],
            None => vec!["NAMESPACE".to_owned(), verb.to_owned()],
        };
        words.push(self.handle.clone());
        words
    }

    pub(super) fn address(&self) -> String {
        address("removal", &[("id", &self.handle)])
    }

    pub(super) fn action(&self, action: &str) -> String {
        address(action, &[("id", &self.handle)])
    }

    pub(super) fn badge(&self) -> Markup {
        if self.is_purging {
            show::badge("wait", "purging")
        } else if self.hold.is_some() {
            show::badge("hold", "on hold")
        } else if self.is_restorable {
            show::badge("good", "restorable")
        } else {
            show::badge("bad", "expired")
        }
    }

    /// `12 documents, 1.2 MB`, as far as it is known.
    pub(super) fn content(&self) -> String {
        match (self.documents, self.bytes) {
            (Some(documents), Some(bytes)) => {
                format!("{}, {}", show::documents(documents), show::size_text(bytes))
            }
            _ => "all its buckets and namespaces".to_owned(),
        }
    }

    /// How long it is kept yet.
    pub(super) fn left(&self, now: i64) -> Markup {
        if self.is_purging {
            return show::unknown();
        }
        show::left(now, self.expires_at)
    }
}

/// The removal with an id, of a bucket or of a namespace.
pub(super) async fn find(desk: &mut Desk, id: &str) -> Result<Removal, Fault> {
    let buckets = match desk.call(["BUCKET.REMOVED", "NAMESPACE", "*", "REMOVAL", id]).await {
        // Who may not see all namespaces may see the one that it was in.
        Err(fault) if fault.is("NOPERM") => {
            let described = desk.call(["BUCKET.DESCRIBE", id]).await?;
            let namespace = Row::of(&described).text("namespace").into_owned();
            desk.call(["BUCKET.REMOVED", "NAMESPACE", &namespace, "REMOVAL", id]).await?
        }
        buckets => buckets?,
    };
    if let Some(row) = rows(&buckets).first() {
        return Ok(Removal::of(*row));
    }
    let namespaces = desk.call(["NAMESPACE", "REMOVED", "REMOVAL", id]).await?;
    match rows(&namespaces).first() {
        Some(row) => Ok(Removal::of(*row)),
        None => Err(Fault::not_found(
            "Nothing removed has this id",
            "It was restored, or purged and its bytes are given back. The audit log tells which.",
        )),
    }
}

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let id = desk.query.required("id")?.to_owned();
    let removal = find(desk, &id).await?;
    let now = desk.now();
    let barrier = if removal.is_purging {
        html! {}
    } else {
        let reply = desk.call(removal.command("BARRIER")).await?;
        barrier(now, &rows(&reply))
    };
    let body = html! {
        div class="head" {
            div {
                p class="crumbs" {
                    a href=(address("bin", &[])) { "Recycle bin" } " / " (removal.kind())
                }
                h1 { (removal.name()) " " (removal.badge()) }
                @if removal.bucket.is_some() {
                    p class="sub" { "in namespace " (removal.namespace) }
                }
            }
            (main_actions(&removal))
        }
        div data-part="removal" class="parts" {
            (facts(&removal, now))
            (barrier)
        }
        (danger(&removal))
    };
    let live = if removal.is_purging { Live::Moving } else { Live::Events };
    Ok(Page::new(Place::Bin, format!("{} (removed)", removal.name()), body).live(live))
}

fn main_actions(removal: &Removal) -> Markup {
    html! {
        @if !removal.is_purging {
            div class="actions" {
                a class="button primary" href=(removal.action("restore")) { "Restore…" }
                a class="button" href=(removal.action("retain")) { "Keep longer…" }
                @if removal.hold.is_some() {
                    a class="button" href=(removal.action("unhold")) { "Lift the hold…" }
                } @else {
                    a class="button" href=(removal.action("hold")) { "Put on hold…" }
                }
            }
        }
    }
}

/// What there is to know about a removal.
pub(super) fn facts(removal: &Removal, now: i64) -> Markup {
    html! {
        section class="card" aria-label="Figures" {
            dl class="figures" {
                div {
                    dt { "Time left" }
                    dd {
                        (removal.left(now))
                        @if let Some(at) = removal.expires_at { small { "until " (show::exactly(at)) } }
                    }
                }
                @if let Some(documents) = removal.documents {
                    div { dt { "Documents" } dd { (show::number(documents)) } }
                }
                @if let Some(bytes) = removal.bytes {
                    div { dt { "Size" } dd { (show::size(bytes)) } }
                }
                div {
                    dt { "Removed" }
                    dd { (show::ago(now, removal.removed_at)) small { "by " (removal.removed_by) } }
                }
            }
        }
        section class="card" {
            header { h2 { "Why and what" } }
            div class="body" {
                dl class="facts" {
                    dt { "Reason" }
                    dd {
                        @match &removal.reason {
                            Some(reason) => (reason),
                            None => span class="quiet" { "none was given" },
                        }
                    }
                    @if let Some(hold) = &removal.hold {
                        dt { "On hold" }
                        dd {
                            (hold.reason) " "
                            span class="quiet" {
                                "(" (hold.owner) ", " (show::ago(now, hold.since))
                                @if let Some(at) = hold.review_at { ", to be reviewed " (show::exactly(at)) }
                                ")"
                            }
                        }
                    }
                    dt { "Removal" } dd { code { (removal.handle) } }
                    dt { (if removal.bucket.is_some() { "Bucket" } else { "Namespace" }) } dd { code { (removal.id) } }
                }
            }
        }
    }
}

/// Who has let go of it, shard by shard; then the members that lag.
fn barrier(now: i64, rows: &[Row<'_>]) -> Markup {
    let (shards, members): (Vec<&Row<'_>>, Vec<&Row<'_>>) =
        rows.iter().partition(|row| row.number("shard").is_some());
    let satisfied = shards.iter().filter(|row| row.is_true("satisfied")).count();
    let all = satisfied == shards.len() && members.is_empty();
    html! {
        section class="card" aria-labelledby="barrier" {
            header {
                h2 id="barrier" { "Barrier" }
                p { "A purge may happen once nothing in the cluster can touch it any more." }
            }
            div class="body barrier" {
                p role="status" {
                    (satisfied) " of " (shards.len()) " shards have let go "
                    @if all { (show::badge("good", "reached")) }
                    @else { (show::badge("wait", "not reached yet")) }
                }
                progress value=(satisfied) max=(shards.len()) aria-label="Shards that have let go" {}
            }
            table class="list" {
                caption { "The barrier shard by shard" }
                thead {
                    tr {
                        th scope="col" class="number" { "Shard" } th scope="col" { "Member" }
                        th scope="col" class="number" { "Epoch" } th scope="col" { "State" }
                        th scope="col" { "Witnessed" } th scope="col" { "Busy with" }
                    }
                }
                tbody {
                    @for row in shards.iter().chain(&members) {
                        tr {
                            td class="number" data-label="Shard" {
                                @match row.number("shard") {
                                    Some(shard) => (shard),
                                    None => span class="quiet" { "member" },
                                }
                            }
                            td class="long" data-label="Member" { span { (row.text("node")) } }
                            td class="number" data-label="Epoch" {
                                @match row.number("epoch") {
                                    Some(epoch) => (show::number(epoch)),
                                    None => (show::unknown()),
                                }
                            }
                            td data-label="State" {
                                @if row.is_true("satisfied") { (show::badge("good", "has let go")) }
                                @else { (show::badge("wait", "waiting")) }
                            }
                            td data-label="Witnessed" {
                                code title={ "required: " (row.text("required")) } { (row.text("witnessed")) }
                            }
                            td class="long" data-label="Busy with" { (busy(now, &row.rows("busy"))) }
                        }
                    }
                }
            }
        }
    }
}

fn busy(now: i64, rows: &[Row<'_>]) -> Markup {
    html! {
        @if rows.is_empty() { (show::unknown()) }
        @else {
            span {
                @for row in rows {
                    (row.text("what"))
                    span class="under" { (row.text("node")) ", since " (show::ago(now, row.instant("since"))) }
                }
            }
        }
    }
}

fn danger(removal: &Removal) -> Markup {
    html! {
        @if !removal.is_purging {
            section class="card danger-zone" aria-labelledby="danger" {
                header { h2 id="danger" { "Purge" } }
                div class="body" {
                    p {
                        @if removal.hold.is_some() {
                            "It is on hold: nobody can purge it until the hold is lifted."
                        } @else {
                            "Erases it for good, before its time. This can't be undone."
                        }
                    }
                    @if removal.hold.is_none() {
                        a class="button danger" href=(removal.action("purge")) { "Purge…" }
                    }
                }
            }
        }
    }
}
