//! CHECK: the scan of the whole store, page by page.

use super::support::LIST_MAX;
use super::support::bad_cursor;
use super::{Args, Argument, Context, Error, Group, Reply, Result, Spec, flags, run};
use crate::check::{self, Finding, PAGE_KEYS};
use crate::codec::readable;

pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "CHECK",
    arity: -1,
    flags: flags::READ | flags::ADMIN,
    since: "0.1",
    group: Group::Cluster,
    summary: "Scans the store for orphaned, dangling and inconsistent keys, page by page.",
    complexity: "O(N) in the keys looked at, and in the documents of each bucket among them",
    arguments: &[
        Argument::string("cursor").after("CURSOR").optional(),
        Argument::integer("count").after("COUNT").optional(),
    ],
    handler: run!(check),
}];

async fn check(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let (mut cursor, mut count) = (None, PAGE_KEYS);
    let mut options = args.options(0);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"CURSOR" => cursor = parse_cursor(options.text()?)?,
            b"COUNT" => {
                count = usize::try_from(options.integer()?)
                    .ok()
                    .filter(|count| (1..=LIST_MAX).contains(count))
                    .ok_or_else(|| {
                        Error::syntax(format!("COUNT must be between 1 and {LIST_MAX}"))
                    })?;
            }
            _ => return Err(options.unknown()),
        }
    }
    let store = ctx.services.lifecycle()?.catalog().store();
    let page = check::page(store, cursor.as_deref(), count).await?;
    let next = page.next.map_or_else(|| "0".to_owned(), |key| readable::hex(&key));
    let findings = page.findings.iter().map(shown).collect();
    Ok(Reply::Array(vec![Reply::Text(next), Reply::Array(findings)]))
}

fn shown(finding: &Finding) -> Reply {
    Reply::map([
        ("kind", Reply::literal(finding.kind.name())),
        ("severity", Reply::literal(finding.severity().name())),
        ("key", Reply::Text(finding.readable_key())),
        ("raw", Reply::Text(finding.raw_key())),
        ("wrong", Reply::Text(finding.wrong.clone())),
        ("expected", Reply::Text(finding.expected.clone())),
    ])
}

/// The key that a page begins at; `None` at the beginning of the store.
fn parse_cursor(text: &str) -> Result<Option<Vec<u8>>> {
    if text == "0" {
        return Ok(None);
    }
    let key = readable::from_hex(text).filter(|key| {
        // No page ends at a key that the store does not take.
        (1..=crate::store::limits::KEY_BYTES_MAX).contains(&key.len()) && key[0] != 0xff
    });
    key.map(Some).ok_or_else(bad_cursor)
}
