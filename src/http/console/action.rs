//! What can be done: each has a page that names what will happen, and a form that does it.
//!
//! A form carries an operation id, so that sent twice it is done once.

mod forms;
mod undelete;

use axum::http::StatusCode;
use maud::{Markup, html};

use super::desk::Desk;
use super::fault::Fault;
use super::page::{Answer, Page, Place, token};
use super::removal::{self, Removal};
use super::reply::{Row, paged, rows};
use super::request::{Fields, address};
use super::show;

/// How long a purge waits for the barrier before the visitor is told that it goes on by itself.
const PURGE_WAIT_MS: &str = "3000";

/// Buckets of a removed namespace that are summed for its page.
const SUMMED_MAX: &str = "200";

/// Something that a form does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Restore,
    Purge,
    Hold,
    Unhold,
    Retain,
    Undelete,
}

impl Action {
    /// By the last part of its path.
    pub(super) fn named(path: &str) -> Option<Self> {
        Some(match path {
            "restore" => Self::Restore,
            "purge" => Self::Purge,
            "hold" => Self::Hold,
            "unhold" => Self::Unhold,
            "retain" => Self::Retain,
            "undelete" => Self::Undelete,
            _ => return None,
        })
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Purge => "purge",
            Self::Hold => "hold",
            Self::Unhold => "unhold",
            Self::Retain => "retain",
            Self::Undelete => "undelete",
        }
    }

    /// The command that it becomes, of a bucket or a namespace.
    const fn verb(self) -> &'static str {
        match self {
            Self::Restore => "RESTORE",
            Self::Purge => "PURGE",
            Self::Hold => "HOLD",
            Self::Unhold => "UNHOLD",
            Self::Retain => "RETAIN",
            Self::Undelete => "UNDELETE",
        }
    }

    /// What it does with this.
    fn title(self, what: &str) -> String {
        match self {
            Self::Restore => format!("Restore {what}"),
            Self::Purge => format!("Purge {what}"),
            Self::Hold => format!("Put {what} on hold"),
            Self::Unhold => format!("Lift the hold of {what}"),
            Self::Retain => format!("Change how long to keep {what}"),
            Self::Undelete => format!("Bring back documents of {what}"),
        }
    }
}

/// What was filled in and is wrong.
struct Wrong<'a> {
    fault: Fault,
    form: &'a Fields,
}

/// What a form begins with: what was sent with it before, else this.
fn filled<'a>(wrong: Option<&Wrong<'a>>, field: &str, else_this: &'a str) -> &'a str {
    wrong.map_or(else_this, |wrong| wrong.form.get(field).unwrap_or_default())
}

/// The page that asks whether it is meant.
pub(super) async fn confirm(action: Action, desk: &mut Desk) -> Result<Page, Fault> {
    if action == Action::Undelete {
        return undelete::confirm(desk, None).await;
    }
    let id = desk.query.required("id")?.to_owned();
    let removal = removal::find(desk, &id).await?;
    desk.expect(removal.command(action.verb())).await?;
    ask(action, desk, &removal, None).await
}

async fn ask(
    action: Action,
    desk: &mut Desk,
    removal: &Removal,
    wrong: Option<Wrong<'_>>,
) -> Result<Page, Fault> {
    let wrong = wrong.as_ref();
    let now = desk.now();
    let fields = match action {
        Action::Restore => forms::restore(desk, removal, now, wrong).await?,
        Action::Purge => forms::purge(removal, &content(desk, removal).await?, now, wrong),
        Action::Hold => forms::hold(removal, wrong),
        Action::Unhold => forms::unhold(removal, now),
        Action::Retain => forms::retain(removal, now, wrong),
        Action::Undelete => return Err(Fault::no_page()),
    };
    let crumbs = html! {
        p class="crumbs" {
            a href=(address("bin", &[])) { "Recycle bin" } " / "
            a href=(removal.address()) { (removal.name()) }
        }
    };
    let title = action.title(&format!("{} '{}'", removal.kind(), removal.name()));
    let status = wrong.map_or(StatusCode::OK, |wrong| wrong.fault.status);
    let said = wrong.map(|wrong| format!("{} Nothing was changed.", wrong.fault.sentence()));
    let body = sheet(
        desk,
        &Sheet {
            action,
            title: &title,
            to: &removal.action(action.path()),
            back: &removal.address(),
            crumbs: &crumbs,
            fields: &fields,
            wrong: said.as_deref(),
            is_refused: action == Action::Purge && forms::is_kept(removal),
        },
    );
    Ok(Page::new(Place::Bin, title, body).status(status))
}

/// A page that asks.
struct Sheet<'a> {
    action: Action,
    title: &'a str,
    /// Where the form goes.
    to: &'a str,
    /// Where the visitor came from.
    back: &'a str,
    crumbs: &'a Markup,
    fields: &'a Markup,
    wrong: Option<&'a str>,
    /// The page says why it would be: there is nothing to send.
    is_refused: bool,
}

fn sheet(desk: &Desk, sheet: &Sheet<'_>) -> Markup {
    let operation: u128 = rand::random();
    let (class, label) = match sheet.action {
        Action::Purge => ("button danger sure", "Purge for good"),
        Action::Restore => ("button primary", "Restore"),
        Action::Hold => ("button primary", "Put on hold"),
        Action::Unhold => ("button primary", "Lift the hold"),
        Action::Retain => ("button primary", "Change"),
        Action::Undelete => ("button primary", "Bring back"),
    };
    html! {
        div class="ask" {
            div { (sheet.crumbs) h1 { (sheet.title) } }
            @if let Some(wrong) = sheet.wrong {
                p class="notice bad" role="alert" id="wrong" { (wrong) }
            }
            form method="post" action=(sheet.to) {
                (token(desk))
                input type="hidden" name="operation" value={ (format!("{operation:032x}")) };
                (sheet.fields)
                div class="actions" {
                    @if !sheet.is_refused { button class=(class) type="submit" { (label) } }
                    a class="button" href=(sheet.back) { "Cancel" }
                }
            }
        }
    }
}

/// What is in something removed, as far as that can be told quickly.
async fn content(desk: &mut Desk, removal: &Removal) -> Result<String, Fault> {
    if removal.bucket.is_some() {
        return Ok(removal.content());
    }
    let words = ["BUCKET.LIST", "ALL", "NAMESPACE", &removal.id, "COUNT", SUMMED_MAX];
    let Some(reply) = desk.look(words).await? else { return Ok(removal.content()) };
    let (list, more) = paged(&reply);
    let (mut buckets, mut documents, mut bytes) = (0, 0, 0);
    for row in rows(list) {
        let described = desk.call(["BUCKET.DESCRIBE", &row.text("id")]).await?;
        let described = Row::of(&described);
        buckets += 1;
        documents += described.number("documents").unwrap_or(0);
        bytes += described.number("bytes").unwrap_or(0);
    }
    let more = if more.is_some() { "more than " } else { "" };
    Ok(format!(
        "{more}{} with {}, {}, and everything in the namespaces below it",
        show::counted(buckets, "bucket", "buckets"),
        show::documents(documents),
        show::size_text(bytes),
    ))
}

/// Does what a form asks for.
pub(super) async fn carry_out(
    action: Action,
    desk: &mut Desk,
    form: &Fields,
) -> Result<Answer, Fault> {
    if action == Action::Undelete {
        return undelete::carry_out(desk, form).await;
    }
    let id = desk.query.required("id")?.to_owned();
    let operation = form.required("operation")?;
    let Some(removal) = removal::seek(desk, &id).await? else {
        return Err(refused(action, desk, &id).await?);
    };
    let words = match action {
        Action::Restore => Ok(forms::restore_words(&removal, form)),
        Action::Purge => forms::purge_words(&removal, form),
        Action::Hold => forms::hold_words(&removal, form),
        Action::Unhold => Ok(removal.command("UNHOLD")),
        Action::Retain => forms::retain_words(&removal, form),
        Action::Undelete => Err(Fault::no_page()),
    };
    let done = match words {
        Ok(mut words) => {
            words.extend(["OPID".to_owned(), operation.to_owned()]);
            desk.call(words).await.map(drop)
        }
        Err(fault) => Err(fault),
    };
    match done {
        Ok(()) => {
            let may_see_reclaim = desk.menu.contains(&Place::Reclaim);
            Ok(Answer::To(after(action, &removal, form, may_see_reclaim)))
        }
        // The request stays behind, and is carried out when everybody has let go.
        Err(fault) if action == Action::Purge && fault.is("BARRIERNOTSATISFIED") => {
            Ok(Answer::To(removal.done("purge-waits")))
        }
        Err(fault) if can_be_mended(&fault) => {
            Ok(Answer::Page(ask(action, desk, &removal, Some(Wrong { fault, form })).await?))
        }
        Err(fault) => Err(fault),
    }
}

/// The refusal of a visitor who may not see what he acts on, recorded as what he tried.
async fn refused(action: Action, desk: &mut Desk, id: &str) -> Result<Fault, Fault> {
    let mut words = vec![format!("BUCKET.{}", action.verb()), id.to_owned()];
    // What the command wants at least.
    words.extend(match action {
        Action::Retain => vec!["1d".to_owned()],
        Action::Hold => vec!["REASON".to_owned(), "none".to_owned()],
        // Should the right be granted in between, nothing is destroyed or brought back unseen.
        Action::Purge | Action::Restore => vec!["DRYRUN".to_owned()],
        Action::Unhold | Action::Undelete => Vec::new(),
    });
    match desk.permit(&words).await? {
        // Nothing is done unseen, also by those who may.
        Some(_) => Ok(removal::find(desk, id).await.err().unwrap_or_else(Fault::no_page)),
        None => Ok(desk.call(&words).await.err().unwrap_or_else(Fault::no_page)),
    }
}

/// Whether another input may succeed, so that the form is shown once more.
fn can_be_mended(fault: &Fault) -> bool {
    let mendable = [
        StatusCode::BAD_REQUEST,
        StatusCode::CONFLICT,
        StatusCode::NOT_FOUND,
        StatusCode::GONE,
        StatusCode::UNPROCESSABLE_ENTITY,
    ];
    mendable.contains(&fault.status)
}

/// Where one goes on when it is done.
fn after(action: Action, removal: &Removal, form: &Fields, may_see_reclaim: bool) -> String {
    match (action, &removal.bucket) {
        (Action::Restore, Some(bucket)) => {
            let name = form.get("as").unwrap_or(bucket);
            let namespace = form.get("into").unwrap_or(&removal.namespace);
            address("bucket", &[("namespace", namespace), ("name", name), ("done", "restored")])
        }
        (Action::Restore, None) => {
            let name = form.get("as").unwrap_or(&removal.namespace);
            address("namespace", &[("name", name), ("done", "restored")])
        }
        // Who may not see what is reclaimed goes on with the bin.
        (Action::Purge, _) if may_see_reclaim => address("reclaim", &[("done", "purged")]),
        (Action::Purge, _) => address("bin", &[("done", "purged")]),
        (action, _) => {
            let done = match action {
                Action::Hold => "held",
                Action::Unhold => "unheld",
                _ => "retained",
            };
            removal.done(done)
        }
    }
}
