//! BUCKET.ALTER and BUCKET.TTL: what can be changed of a bucket besides its name.

use super::bucket::only_opid;
use super::support::{self, caller, current};
use super::{Args, Argument, Context, Error, Group, Reply, Result, Spec, flags, run};
use crate::clock::milliseconds;
use crate::codec::duration::{Retention, format_duration, format_instant};
use crate::codec::record::{BucketRecord, TtlProgressRecord, TtlRecord};
use crate::metadata::{name, settings};

const BASE: Spec = Spec {
    name: "BUCKET.ALTER",
    arity: -4,
    flags: flags::WRITE | flags::NO_TRANSACTION,
    since: "0.1",
    group: Group::Bucket,
    summary: "Changes a setting of a bucket.",
    complexity: "O(1)",
    arguments: &[
        Argument::string("bucket"),
        Argument::string("duration").after("TOMBSTONE-RETENTION"),
        Argument::string("id").after("OPID").optional(),
    ],
    handler: run!(alter),
};

pub(super) const COMMANDS: &[Spec] = &[
    BASE,
    Spec {
        name: "BUCKET.TTL",
        arity: -4,
        summary: "Has documents deleted when the time in a field is older than a duration.",
        arguments: &[
            Argument::string("bucket"),
            Argument::string("field"),
            Argument::string("duration"),
            Argument::string("id").after("OPID").optional(),
        ],
        handler: run!(ttl),
        ..BASE
    },
];

/// `BUCKET.ALTER <bucket> TOMBSTONE-RETENTION <duration>|DEFAULT [OPID <id>]`.
async fn alter(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let (mut retention, mut opid) = (None, None);
    let mut options = args.options(1);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"TOMBSTONE-RETENTION" if options.accept("DEFAULT") => retention = Some(None),
            b"TOMBSTONE-RETENTION" => {
                retention = Some(Some(support::retention(options.text()?)?));
            }
            b"OPID" => opid = Some(options.value()?),
            _ => return Err(options.unknown()),
        }
    }
    let retention = retention.ok_or_else(|| Error::syntax("give TOMBSTONE-RETENTION"))?;
    let path = current(ctx)?;
    let caller = caller(ctx.session, "BUCKET.ALTER", &args, opid)?;
    let lifecycle = ctx.services.lifecycle()?;
    let result = lifecycle.catalog().keep_deleted(&caller, &path, bucket, retention).await;
    lifecycle.note_refusal(&caller, "alter", (&path, bucket), &result);
    result?;
    Ok(Reply::Ok)
}

/// `BUCKET.TTL <bucket> <field> <duration>|OFF [OPID <id>]`.
async fn ttl(ctx: &mut Context<'_>, args: Args) -> Result<Reply> {
    let bucket = name::bucket(args.required(0)?)?;
    let field = args.text(1)?;
    settings::check_ttl_field(field)?;
    let opid = only_opid(&args, 3)?;
    let after = match args.text(2)? {
        text if text.eq_ignore_ascii_case("OFF") => None,
        text => match support::retention(text)? {
            Retention::For(duration) => Some(milliseconds(duration)),
            Retention::Forever => {
                return Err(Error::syntax("what lives for ever has no TTL: use OFF"));
            }
        },
    };
    let path = current(ctx)?;
    let caller = caller(ctx.session, "BUCKET.TTL", &args, opid)?;
    let lifecycle = ctx.services.lifecycle()?;
    let ttl = after.map(|after_ms| TtlRecord { field: field.to_owned(), after_ms });
    lifecycle.catalog().expire_documents(&caller, &path, bucket, field, ttl).await?;
    lifecycle.wake_workers();
    Ok(Reply::Ok)
}

/// A bucket's TTL, as BUCKET.DESCRIBE shows it.
pub(super) fn ttl_reply(record: &BucketRecord, progress: Option<&TtlProgressRecord>) -> Reply {
    let Some(ttl) = &record.ttl else { return Reply::Null };
    let after = std::time::Duration::from_millis(u64::try_from(ttl.after_ms).unwrap_or_default());
    let last_at = progress.and_then(|progress| progress.last_at);
    let next_at = progress.map(|progress| progress.due_at);
    Reply::map([
        ("field", Reply::Text(ttl.field.clone())),
        ("after", Reply::Text(format_duration(after))),
        ("deleted", Reply::Integer(progress.map_or(0, |progress| progress.deleted))),
        ("last_at", Reply::text_or_null(last_at.map(format_instant))),
        ("next_at", Reply::text_or_null(next_at.map(format_instant))),
    ])
}
