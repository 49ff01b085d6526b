//! The forms for what is removed, and the commands they become.

use axum::http::StatusCode;
use maud::{Markup, html};

use super::{PURGE_WAIT_MS, Wrong, filled};
use crate::http::console::desk::Desk;
use crate::http::console::fault::Fault;
use crate::http::console::removal::Removal;
use crate::http::console::request::Fields;
use crate::http::console::show;

/// Bytes of a reason that the command takes.
const REASON_BYTES_MAX: &str = "1024";

/// How long something may be kept on: what is chosen, how it is named.
const TIMES: [(&str, &str); 7] = [
    ("", "choose"),
    ("1d", "1 day"),
    ("7d", "7 days"),
    ("30d", "30 days"),
    ("90d", "90 days"),
    ("365d", "365 days"),
    ("forever", "forever"),
];

/// `until 2026-11-29 06:30:00 UTC (6 d 23 h)`.
fn until(removal: &Removal, now: i64) -> Markup {
    match removal.expires_at {
        None => html! { "for ever" },
        Some(at) => html! { "until " (show::exactly(at)) " (" (show::in_text(now, at)) ")" },
    }
}

pub(super) async fn restore(
    desk: &mut Desk,
    removal: &Removal,
    now: i64,
    wrong: Option<&Wrong<'_>>,
) -> Result<Markup, Fault> {
    let mut dry = removal.command("RESTORE");
    dry.push("DRYRUN".to_owned());
    let hindered = desk.call(dry).await.err();
    let is = |code| hindered.as_ref().is_some_and(|fault: &Fault| fault.is(code));
    let taken = is("BUCKETALREADYEXISTS") || is("NAMESPACEALREADYEXISTS");
    let expired = is("REMOVEDEXPIRED");
    if let Some(fault) = hindered
        && (fault.is("NOPERM") || fault.is("ALREADYPURGING"))
    {
        return Err(fault);
    }
    let homeless = is_homeless(desk, removal).await?;
    let elsewhere = ["BUCKET.RESTORE", "any", "INTO", "any"];
    let may_move = removal.bucket.is_some() && desk.may_somewhere(elsewhere);
    let may_replace =
        removal.bucket.is_some() && removal.may(desk, "RESTORE", &["REPLACE"]).await?;
    let may_hurry = removal.may(desk, "RESTORE", &["ALLOW-EXPIRED"]).await?;
    Ok(html! {
        div class="card what" {
            ul class="will" {
                li {
                    "The " (removal.kind()) " " strong { (removal.name()) } " comes back with "
                    (removal.content()) ", its indexes and its settings."
                }
                @if removal.bucket.is_some() {
                    li {
                        "It returns to namespace " strong { (removal.namespace) }
                        @if may_move { ", unless you say otherwise below" } "."
                    }
                }
                li { "It can be restored " (until(removal, now)) "." }
                @if let Some(hold) = &removal.hold {
                    li { "The hold that " strong { (hold.owner) } " put on it ends with that. It was there because: " (hold.reason) }
                }
            }
        }
        @if taken && wrong.is_none() {
            p class="notice wait" {
                "Another " (removal.kind()) " has the name " strong { (removal.name()) } " now. Choose another name"
                @if may_replace { ", or put it in place of the other one" } "."
            }
        }
        @if homeless {
            p class="notice wait" {
                "Namespace " strong { (removal.namespace) } " was removed itself. Restore that"
                @if may_move { ", or name another namespace" } "."
            }
        }
        div class="field" {
            label for="as" { (if removal.bucket.is_some() { "Name" } else { "Path" }) }
            input type="text" id="as" name="as" maxlength="255" required
                value=(filled(wrong, "as", removal.name())) aria-describedby=[wrong.map(|_| "wrong")];
        }
        @if may_move {
            div class="field" {
                label for="into" { "Namespace" }
                input type="text" id="into" name="into" required value=(filled(wrong, "into", &removal.namespace));
            }
        }
        @if may_replace && (taken || wrong.is_some()) {
            div class="tick" {
                input type="checkbox" id="replace" name="replace" value="yes" checked[wrong.is_some_and(|wrong| wrong.form.is_set("replace"))];
                label for="replace" {
                    "Put it in place of the bucket that has the name now. That one is removed, and can be restored in its turn."
                }
            }
        }
        @if expired && !may_hurry {
            p class="notice wait" { "Its time is over. To restore it all the same takes the right to purge." }
        }
        @if expired && may_hurry {
            div class="tick" {
                input type="checkbox" id="expired" name="expired" value="yes";
                label for="expired" { "Its time is over. Restore it all the same, as long as it is there." }
            }
        }
    })
}

/// Whether a bucket's namespace is removed as well.
async fn is_homeless(desk: &mut Desk, removal: &Removal) -> Result<bool, Fault> {
    if removal.bucket.is_none() {
        return Ok(false);
    }
    match desk.call(["NAMESPACE", "EXISTS", &removal.namespace]).await {
        Ok(reply) => Ok(reply == crate::resp::Reply::Integer(0)),
        Err(fault) if fault.is("NAMESPACEBEINGREMOVED") || fault.is("NOSUCHNAMESPACE") => Ok(true),
        Err(fault) if fault.is("NOPERM") => Ok(false),
        Err(fault) => Err(fault),
    }
}

pub(super) fn restore_words(removal: &Removal, form: &Fields) -> Vec<String> {
    let mut words = removal.command("RESTORE");
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    if let Some(name) = form.get("as").filter(|name| *name != removal.name()) {
        option("AS", name);
    }
    if removal.bucket.is_some() {
        if let Some(into) = form.get("into").filter(|into| *into != removal.namespace) {
            option("INTO", into);
        }
        if form.is_set("replace") {
            words.push("REPLACE".to_owned());
        }
    }
    if form.is_set("expired") {
        words.push("ALLOW-EXPIRED".to_owned());
    }
    words
}

pub(super) fn purge(
    removal: &Removal,
    content: &str,
    now: i64,
    wrong: Option<&Wrong<'_>>,
) -> Markup {
    html! {
        @if removal.hold.is_some() {
            p class="notice wait" {
                strong { "It is on hold." } " Nobody can purge it until the hold is lifted."
            }
        } @else if let Some(lock) = &removal.lock {
            p class="notice wait" { (lock.text(now)) }
        }
        div class="card what danger-zone" {
            ul class="will" {
                li {
                    "The removed " (removal.kind()) " " strong { (removal.name()) }
                    @if removal.bucket.is_some() { " of namespace " strong { (removal.namespace) } }
                    " is erased: " strong { (content) } "."
                }
                li { strong { "This cannot be undone." } " Nobody can restore it afterwards." }
                li { "Without the purge it can be restored " (until(removal, now)) "." }
                li { "Another " (removal.kind()) " that has the name today is not touched." }
            }
        }
        @if !is_kept(removal) {
            div class="field" {
                label for="name" { "Type the name to confirm: " code { (removal.name()) } }
                input type="text" id="name" name="name" required autocomplete="off" autocapitalize="off"
                    spellcheck="false" aria-invalid=[wrong.map(|_| "true")]
                    aria-describedby=[wrong.map(|_| "wrong")];
            }
        }
    }
}

/// Whether a hold or a lock keeps it from being purged from here.
pub(super) const fn is_kept(removal: &Removal) -> bool {
    removal.hold.is_some() || removal.lock.is_some()
}

pub(super) fn purge_words(removal: &Removal, form: &Fields) -> Result<Vec<String>, Fault> {
    if form.get("name") != Some(removal.name()) {
        return Err(Fault {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            ..Fault::bad("This is not its name.")
        });
    }
    let mut words = removal.command("PURGE");
    words.extend(["TIMEOUT", PURGE_WAIT_MS].map(str::to_owned));
    Ok(words)
}

pub(super) fn hold(removal: &Removal, wrong: Option<&Wrong<'_>>) -> Markup {
    html! {
        div class="card what" {
            ul class="will" {
                li { "Nobody can purge " strong { (removal.name()) } ", and it does not expire, until the hold is lifted." }
                li { "It can still be restored." }
            }
        }
        div class="field" {
            label for="reason" { "Reason" }
            input type="text" id="reason" name="reason" required maxlength=(REASON_BYTES_MAX)
                value=(filled(wrong, "reason", "")) aria-describedby=[wrong.map(|_| "wrong")];
        }
        div class="field" {
            label for="review" { "To be reviewed on (may stay empty)" }
            input type="date" id="review" name="review" value=(filled(wrong, "review", ""));
        }
    }
}

pub(super) fn hold_words(removal: &Removal, form: &Fields) -> Result<Vec<String>, Fault> {
    let mut words = removal.command("HOLD");
    words.extend(["REASON".to_owned(), form.required("reason")?.to_owned()]);
    if let Some(day) = form.get("review") {
        words.extend(["REVIEW".to_owned(), midnight(day)]);
    }
    Ok(words)
}

/// The beginning of a day; what is no day the command refuses.
fn midnight(day: &str) -> String {
    format!("{day}T00:00:00Z")
}

pub(super) fn unhold(removal: &Removal, now: i64) -> Markup {
    html! {
        div class="card what" {
            ul class="will" {
                @if let Some(hold) = &removal.hold {
                    li { "The hold that " strong { (hold.owner) } " put on it is lifted. It was there because: " (hold.reason) }
                }
                li { strong { (removal.name()) } " (" (removal.content()) ") is then kept " (until(removal, now)) "." }
                @if removal.expires_at.is_some_and(|at| at <= now) {
                    li { strong { "Its time is over: it is purged as soon as the hold is lifted." } }
                }
            }
        }
    }
}

pub(super) fn retain(removal: &Removal, now: i64, wrong: Option<&Wrong<'_>>) -> Markup {
    let chosen = filled(wrong, "for", "");
    html! {
        div class="card what" {
            ul class="will" {
                li { strong { (removal.name()) } " (" (removal.content()) ") is kept " (until(removal, now)) " at the moment." }
                li { "When its time is over it is purged. A shorter time than now takes the right to purge." }
            }
        }
        div class="field" {
            label for="for" { "Keep for, from now" }
            select id="for" name="for" {
                @for (value, label) in TIMES { option value=(value) selected[value == chosen] { (label) } }
            }
        }
        div class="field" {
            label for="until" { "Or until the beginning of this day (UTC)" }
            input type="date" id="until" name="until" value=(filled(wrong, "until", ""));
        }
    }
}

pub(super) fn retain_words(removal: &Removal, form: &Fields) -> Result<Vec<String>, Fault> {
    let mut words = removal.command("RETAIN");
    match (form.get("for"), form.get("until")) {
        (Some(time), None) => words.push(time.to_owned()),
        (None, Some(day)) => words.extend(["UNTIL".to_owned(), midnight(day)]),
        (Some(_), Some(_)) => return Err(Fault::bad("Choose a time or a day, not both.")),
        (None, None) => return Err(Fault::bad("Choose a time or a day.")),
    }
    Ok(words)
}
