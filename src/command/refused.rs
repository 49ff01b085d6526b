//! Commands of Redis that destroy at once. They are known so that who sends one out of habit is told
//! what to use instead; none of them ever does anything.

use super::{Args, Context, Error, Group, Handler, Reply, Result, Spec, flags};

const fn refused(
    name: &'static str,
    summary: &'static str,
    run: fn(&mut Context<'_>, &Args) -> Result<Reply>,
) -> Spec {
    Spec {
        name,
        arity: -1,
        flags: flags::FAST | flags::REFUSED,
        since: "0.1",
        group: Group::Server,
        summary,
        complexity: "O(1)",
        arguments: &[],
        handler: Handler::Sync(run),
    }
}

pub(super) const COMMANDS: &[Spec] = &[
    refused("DEL", "Refused: there are no keys; BUCKET.DELETE deletes documents.", |_, _| {
        delete("DEL")
    }),
    refused("UNLINK", "Refused: there are no keys; BUCKET.DELETE deletes documents.", |_, _| {
        delete("UNLINK")
    }),
    refused("GETDEL", "Refused: there are no keys; BUCKET.QUERY finds documents.", |_, _| {
        delete("GETDEL")
    }),
    refused(
        "FLUSHALL",
        "Refused: BUCKET.REMOVE removes a bucket, and it can be restored.",
        |_, _| flush("FLUSHALL"),
    ),
    refused(
        "FLUSHDB",
        "Refused: BUCKET.REMOVE removes a bucket, and it can be restored.",
        |_, _| flush("FLUSHDB"),
    ),
    refused("SHUTDOWN", "Refused: stop the process with SIGTERM.", |_, _| {
        say("SHUTDOWN is not supported: stop the process with SIGTERM")
    }),
];

fn say(message: impl Into<String>) -> Result<Reply> {
    Err(Error::syntax(message))
}

fn delete(name: &str) -> Result<Reply> {
    say(format!(
        "{name} is not supported: there are no keys. BUCKET.DELETE deletes documents; BUCKET.REMOVE \
         removes a bucket, which can be restored until it expires"
    ))
}

fn flush(name: &str) -> Result<Reply> {
    say(format!(
        "{name} is not supported: nothing is destroyed at once. BUCKET.REMOVE removes a bucket, \
         which can be restored until it expires"
    ))
}
