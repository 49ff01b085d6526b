//! Commands of Redis that destroy at once, or write over what is there. They are known so that who
//! sends one out of habit is told what to use instead; none of them ever does anything.

use super::{Error, Group, Handler, Spec, flags};

macro_rules! refused {
    ($($name:literal, $summary:literal, $instead:expr;)*) => {
        pub(super) const COMMANDS: &[Spec] = &[$(Spec {
            name: $name,
            arity: -1,
            flags: flags::FAST | flags::REFUSED,
            since: "0.1",
            group: Group::Server,
            summary: concat!("Refused: ", $summary, "."),
            complexity: "O(1)",
            arguments: &[],
            handler: Handler::Sync(|_, _| {
                Err(Error::syntax(format!("{} is not supported: {}", $name, $instead)))
            }),
        },)*];
    };
}

const DELETE: &str = "there are no keys. BUCKET.DELETE deletes documents; BUCKET.REMOVE removes a \
                      bucket, which can be restored until it expires";
const FLUSH: &str = "nothing is destroyed at once. BUCKET.REMOVE removes a bucket, which can be \
                     restored until it expires";
const EXPIRE: &str = "there are no keys. BUCKET.DELETE deletes documents, and its RETAIN says how \
                      long they are kept; BUCKET.RETAIN says that of a removed bucket";
const NAME: &str = "there are no keys. BUCKET.RENAME gives a bucket another name, and writes over \
                    none";
const FOLLOW: &str = "no node takes over the data of another and loses its own. BUCKET.CHANGES and \
                      BUCKET.REPLICA are for following a bucket";

refused! {
    "COPY", "there are no keys; BUCKET.COPY copies a bucket",
        "there are no keys. BUCKET.COPY copies a bucket, and writes over none";
    "DEBUG", "there is nothing to debug by command; BUCKET.DESCRIBE shows a bucket",
        "nothing is loaded anew or crashed by command. CHECK looks for damage, BUCKET.DESCRIBE shows a bucket";
    "DEL", "there are no keys; BUCKET.DELETE deletes documents", DELETE;
    "EXPIRE", "there are no keys; BUCKET.DELETE deletes documents", EXPIRE;
    "EXPIREAT", "there are no keys; BUCKET.DELETE deletes documents", EXPIRE;
    "FLUSHALL", "BUCKET.REMOVE removes a bucket, and it can be restored", FLUSH;
    "FLUSHDB", "BUCKET.REMOVE removes a bucket, and it can be restored", FLUSH;
    "GETDEL", "there are no keys; BUCKET.QUERY finds documents", DELETE;
    "GETEX", "there are no keys; BUCKET.QUERY finds documents", EXPIRE;
    "MIGRATE", "there are no keys; BUCKET.CHANGES follows a bucket", FOLLOW;
    "MOVE", "there are no keys; BUCKET.RENAME gives a bucket another name", NAME;
    "PEXPIRE", "there are no keys; BUCKET.DELETE deletes documents", EXPIRE;
    "PEXPIREAT", "there are no keys; BUCKET.DELETE deletes documents", EXPIRE;
    "RENAME", "there are no keys; BUCKET.RENAME gives a bucket another name", NAME;
    "RENAMENX", "there are no keys; BUCKET.RENAME gives a bucket another name", NAME;
    "REPLICAOF", "BUCKET.CHANGES and BUCKET.REPLICA follow a bucket", FOLLOW;
    "RESTORE", "there are no keys; BUCKET.RESTORE restores a removed bucket",
        "there are no keys. BUCKET.RESTORE brings a removed bucket back";
    "SET", "there are no keys; BUCKET.INSERT and BUCKET.UPDATE write documents",
        "there are no keys. BUCKET.INSERT and BUCKET.UPDATE write documents";
    "SHUTDOWN", "stop the process with SIGTERM", "stop the process with SIGTERM";
    "SLAVEOF", "BUCKET.CHANGES and BUCKET.REPLICA follow a bucket", FOLLOW;
    "SWAPDB", "there are no numbered databases; BUCKET.RENAME gives a bucket another name", NAME;
    "UNLINK", "there are no keys; BUCKET.DELETE deletes documents", DELETE;
}
