//! One removal: what it was, how long it is kept, how far the barrier is, what can be done.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::namespace::is_passed_over;
use super::page::{Live, Page, Place};
use super::reply::{Row, rows};
use super::request::address;
use super::show::{self, Column};

/// The columns of the barrier.
const BARRIER: [Column<'_>; 6] = [
    Column::Number("Shard"),
    Column::Text("Member"),
    Column::Number("Epoch"),
    Column::Text("State"),
    Column::Text("Witnessed"),
    Column::Text("Busy with"),
];

/// Why nobody may purge it.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) owner: String,
    pub(super) reason: String,
    pub(super) review_at: Option<i64>,
    is_overdue: bool,
    pub(super) since: Option<i64>,
}

/// What else keeps it from being purged.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    pub(super) name: String,
    /// `None`: for ever.
    until: Option<i64>,
}

impl Lock {
    /// What it means.
    pub(super) fn text(&self, now: i64) -> Markup {
        html! {
            @match self.name.as_str() {
                "governance" => "A lock of governance keeps it: who may all the same purges it with a client, by BYPASS-GOVERNANCE. Without that nobody can purge it ",
                "compliance" => "A lock of compliance keeps it: nobody can purge it ",
                _ => "The policy of its namespace keeps it: nobody can purge it ",
            }
            @match self.until {
                Some(at) => { "before " (show::exactly(at)) " (" (show::in_text(now, at)) ")." }
                None => { "as long as the lock is there." }
            }
        }
    }
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
    pub(super) lock: Option<Lock>,
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
            is_overdue: hold.is_true("review_overdue"),
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
            lock: row.row("locked").map(|locked| Lock {
                name: locked.text("lock").into_owned(),
                until: locked.instant("until"),
            }),
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

    /// What it is found by again, also by those who may not see all namespaces.
    fn fields(&self) -> [(&'static str, &str); 2] {
        [("id", &self.handle), ("namespace", &self.namespace)]
    }

    pub(super) fn address(&self) -> String {
        address("removal", &self.fields())
    }

    pub(super) fn action(&self, action: &str) -> String {
        address(action, &self.fields())
    }

    /// Its page, with what was done said on it.
    pub(super) fn done(&self, done: &str) -> String {
        let [id, namespace] = self.fields();
        address("removal", &[id, namespace, ("done", done)])
    }

    /// Whether a visitor may run a command on it: judged by where it was, which takes no look at it.
    pub(super) async fn may(
        &self,
        desk: &mut Desk,
        verb: &str,
        options: &[&str],
    ) -> Result<bool, Fault> {
        let mut words = self.command(verb);
        if let Some(place) = words.last_mut() {
            // The name of any bucket there, where the namespace says it all.
            let named = if self.bucket.is_some() { "any" } else { self.namespace.as_str() };
            named.clone_into(place);
        }
        words.extend(options.iter().map(|option| (*option).to_owned()));
        let permit = desk.permit_in(&self.namespace, words).await?;
        Ok(permit.is_some_and(|permit| permit.expect_own(&self.removed_by).is_ok()))
    }

    /// Whether a visitor may restore it: what is on hold only who may lift that.
    pub(super) async fn may_restore(&self, desk: &mut Desk) -> Result<bool, Fault> {
        Ok(!self.is_purging
            && self.may(desk, "RESTORE", &[]).await?
            && (self.hold.is_none() || self.may(desk, "UNHOLD", &[]).await?))
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

/// What a visitor may do with something removed.
#[derive(Clone, Copy, Debug)]
struct May {
    restore: bool,
    retain: bool,
    hold: bool,
    unhold: bool,
    purge: bool,
}

impl May {
    async fn of(removal: &Removal, desk: &mut Desk) -> Result<Self, Fault> {
        Ok(Self {
            restore: removal.may_restore(desk).await?,
            retain: removal.may(desk, "RETAIN", &["1d"]).await?,
            hold: removal.may(desk, "HOLD", &["REASON", "any"]).await?,
            unhold: removal.may(desk, "UNHOLD", &[]).await?,
            purge: removal.may(desk, "PURGE", &[]).await?,
        })
    }
}

/// The removal with an id, of a bucket or of a namespace; `None` where the visitor may look nowhere.
pub(super) async fn seek(desk: &mut Desk, id: &str) -> Result<Option<Removal>, Fault> {
    if !desk.may_somewhere(["BUCKET.REMOVED"]) && !desk.may_somewhere(["NAMESPACE", "REMOVED"]) {
        return Ok(None);
    }
    let place = match desk.query.get("namespace") {
        Some(place) => Some(place.to_owned()),
        // Who may not see all namespaces may see the one that it was in.
        None => match desk.look(["BUCKET.DESCRIBE", id]).await {
            Ok(described) => {
                let row = described.as_ref().map(Row::of);
                row.and_then(|row| row.maybe("namespace")).map(Into::into)
            }
            Err(fault) if fault.status.is_client_error() && !fault.wants_login() => None,
            Err(fault) => return Err(fault),
        },
    };
    let mut ways = vec![
        vec!["BUCKET.REMOVED", "NAMESPACE", "*", "REMOVAL", id],
        vec!["NAMESPACE", "REMOVED", "REMOVAL", id],
    ];
    if let Some(place) = &place {
        ways.push(vec!["BUCKET.REMOVED", "NAMESPACE", place, "REMOVAL", id]);
        if let Some((above, _)) = place.rsplit_once('.') {
            ways.push(vec!["NAMESPACE", "REMOVED", above, "REMOVAL", id]);
        }
    }
    let mut looked = false;
    for way in ways {
        let Some(reply) = passed_over(desk.look(way).await)? else { continue };
        looked = true;
        if let Some(row) = rows(&reply).first() {
            return Ok(Some(Removal::of(*row)));
        }
    }
    if looked { Err(missing()) } else { Ok(None) }
}

fn missing() -> Fault {
    Fault::not_found(
        "Nothing removed has this id",
        "It was restored, or purged and its bytes are given back. The audit log tells which.",
    )
}

/// Nothing where the visitor may not look, or nothing is any more.
fn passed_over<T>(looked: Result<Option<T>, Fault>) -> Result<Option<T>, Fault> {
    match looked {
        Err(fault) if is_passed_over(&fault) => Ok(None),
        looked => looked,
    }
}

/// The removal with an id; who may look nowhere is refused, which is recorded.
pub(super) async fn find(desk: &mut Desk, id: &str) -> Result<Removal, Fault> {
    if let Some(removal) = seek(desk, id).await? {
        return Ok(removal);
    }
    desk.call(["BUCKET.REMOVED", "NAMESPACE", "*", "REMOVAL", id]).await?;
    Err(missing())
}

pub(super) async fn page(desk: &mut Desk) -> Result<Page, Fault> {
    let id = desk.query.required("id")?.to_owned();
    let removal = find(desk, &id).await?;
    let now = desk.now();
    let may = May::of(&removal, desk).await?;
    let witnesses = if !removal.is_purging && removal.may(desk, "BARRIER", &[]).await? {
        Some(desk.call(removal.command("BARRIER")).await?)
    } else {
        None
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
            (main_actions(&removal, may))
        }
        div data-part="removal" class="parts" {
            @if removal.is_purging {
                p class="notice wait" {
                    strong { "It is purged." } " Nobody can restore it any more. Its bytes are being given back"
                    @if desk.menu.contains(&Place::Reclaim) { ", as " a href=(address("reclaim", &[])) { "Reclaim" } " shows" }
                    "."
                }
            }
            (facts(&removal, now))
            @if let Some(witnesses) = &witnesses { (barrier(now, &rows(witnesses))) }
        }
        @if may.purge { (danger(&removal, now)) }
    };
    let live = if removal.is_purging { Live::Moving } else { Live::Events };
    Ok(Page::new(Place::Bin, format!("{} (removed)", removal.name()), body).live(live))
}

fn main_actions(removal: &Removal, may: May) -> Markup {
    let is_held = removal.hold.is_some();
    let actions = [
        (may.restore, "restore", "Restore…"),
        (may.retain, "retain", "Keep longer…"),
        (may.unhold && is_held, "unhold", "Lift the hold…"),
        (may.hold && !is_held, "hold", "Put on hold…"),
    ];
    html! {
        @if !removal.is_purging {
            div class="actions" {
                @for (_, action, label) in actions.iter().filter(|(may, _, _)| *may) {
                    a class={ "button" @if *action == "restore" { " primary" } } href=(removal.action(action)) { (label) }
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
                        @if removal.hold.is_some() && !removal.is_purging { small { "and on while it is on hold" } }
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
                            @if hold.is_overdue { " " (show::badge("wait", "review overdue")) }
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
    let awaited: BTreeSet<_> =
        rows.iter().filter(|row| !row.is_true("satisfied")).map(|row| row.text("node")).collect();
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
                    @if !awaited.is_empty() {
                        span class="under" {
                            "It waits for "
                            @for (at, node) in awaited.iter().enumerate() { @if at > 0 { ", " } strong { (node) } }
                        }
                    }
                }
                progress value=(satisfied) max=(shards.len()) aria-label="Shards that have let go" {}
            }
            (show::table("The barrier shard by shard", &BARRIER, &html! {
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
            }))
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

fn danger(removal: &Removal, now: i64) -> Markup {
    html! {
        @if !removal.is_purging {
            section class="card danger-zone" aria-labelledby="danger" {
                header { h2 id="danger" { "Purge" } }
                div class="body" {
                    p {
                        @if removal.hold.is_some() {
                            "It is on hold: nobody can purge it until the hold is lifted."
                        } @else if let Some(lock) = &removal.lock {
                            (lock.text(now))
                        } @else {
                            "Erases it for good, before its time. This can't be undone."
                        }
                    }
                    @if removal.hold.is_none() && removal.lock.is_none() {
                        a class="button danger" href=(removal.action("purge")) { "Purge…" }
                    }
                }
            }
        }
    }
}
