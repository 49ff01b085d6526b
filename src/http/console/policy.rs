//! What applies to a namespace or a bucket, and where each value comes from.

use maud::{Markup, html};

use super::reply::Row;
use super::show;

/// The facts of what DESCRIBE tells as `policy`.
pub(super) fn facts(policy: Row<'_>) -> Markup {
    html! {
        (kept(policy, "Kept after removal", "retention"))
        (kept(policy, "Deleted documents are kept", "tombstone-retention"))
        @if let Some(lock) = policy.row("lock").filter(|lock| lock.text("value") != "none") {
            dt { "Lock" }
            dd { (show::badge("hold", &lock.text("value"))) " " (source(lock)) }
        }
        @for quota in policy.rows("quotas") { (used(quota)) }
    }
}

/// How long something is kept, and within which limits.
fn kept(policy: Row<'_>, label: &str, name: &str) -> Markup {
    let value = |row: Row<'_>| show::kept(&row.text("value"));
    let limit = |end: &str| policy.row(&format!("{name}-{end}"));
    html! {
        @if let Some(applied) = policy.row(name) {
            dt { (label) }
            dd {
                (value(applied)) " " (source(applied))
                @if let Some(min) = limit("min") { span class="under" { "at least " (value(min)) " " (source(min)) } }
                @if let Some(max) = limit("max") { span class="under" { "at most " (value(max)) " " (source(max)) } }
            }
        }
    }
}

/// Who says so, unless it is how the server was set up.
fn source(row: Row<'_>) -> Markup {
    let by = row.text("source");
    html! {
        @match by.as_ref() {
            "setting" | "default" | "" => {},
            "bucket" => span class="quiet" { "(of this bucket)" },
            namespace => span class="quiet" { "(of " (namespace) ")" },
        }
    }
}

/// How much of a quota is used.
fn used(quota: Row<'_>) -> Markup {
    let removed = quota.text("quota-counts-removed") == "yes";
    let sum = |live: &str, gone: &str| {
        let gone = if removed { quota.number(gone).unwrap_or(0) } else { 0 };
        quota.number(live).unwrap_or(0).saturating_add(gone)
    };
    let (documents, bytes) = (sum("documents", "removed_documents"), sum("bytes", "removed_bytes"));
    let waste = quota.number("removed_bytes").unwrap_or(0);
    html! {
        dt { "Quota of " (quota.text("namespace")) }
        dd {
            @if let Some(most) = quota.number("quota-documents") {
                span class="part" { (show::number(documents)) " of " (show::documents(most)) }
                (bar(documents, most))
            }
            @if let Some(most) = quota.number("quota-bytes") {
                span class="part" { (show::size(bytes)) " of " (show::size(most)) }
                (bar(bytes, most))
            }
            @if let Some(most) = quota.number("quota-removed-bytes") {
                span class="part" { (show::size(waste)) " of " (show::size(most)) " removed" }
                (bar(waste, most))
            }
            span class="under" { @if removed { "What is removed counts, until it is purged." } @else { "What is removed does not count." } }
        }
    }
}

fn bar(used: i64, most: i64) -> Markup {
    html! { progress value=(used.min(most)) max=(most.max(1)) aria-label="Used" {} }
}
