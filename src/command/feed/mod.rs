//! BUCKET.CHANGES, and BUCKET.REPLICA: REGISTER, ACK, UNREGISTER, LIST at the
//! source, ORIGIN and APPLY at the bucket that takes over its changes.

mod changes;
mod mirror;
mod replica;

use super::{Argument, Error, Group, Handler, Spec, flags, run};

const fn spec(name: &'static str, arity: i8, flags: u16, summary: &'static str) -> Spec {
    Spec {
        name,
        arity,
        flags: flags | flags::NO_TRANSACTION,
        since: "0.1",
        group: Group::Document,
        summary,
        complexity: "O(1)",
        arguments: &[],
        handler: Handler::Container(unknown),
    }
}

const REPLICA: [Argument; 2] = [Argument::string("bucket"), Argument::string("replica")];

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        complexity: "O(N) in the changes given",
        arguments: &[
            Argument::string("bucket"),
            Argument::string("sequence").after("FROM").optional(),
            Argument::integer("count").after("COUNT").optional(),
            Argument::integer("milliseconds").after("BLOCK").optional(),
            Argument::keyword("with-docs", "WITH-DOCS").optional(),
        ],
        handler: run!(changes::changes),
        ..spec(
            "BUCKET.CHANGES",
            -2,
            flags::READ | flags::BLOCKING,
            "Reads what happened to the documents of a bucket, and waits for more.",
        )
    },
    Spec {
        flags: 0,
        ..spec(
            "BUCKET.REPLICA",
            -2,
            0,
            "Registers readers of a bucket's changes, so that they miss nothing.",
        )
    },
    Spec {
        arguments: &[
            REPLICA[0],
            REPLICA[1],
            Argument::string("sequence").after("FROM").optional(),
            Argument::string("duration").after("LEASE").optional(),
        ],
        handler: run!(replica::register),
        ..spec(
            "BUCKET.REPLICA REGISTER",
            -4,
            flags::WRITE,
            "Registers a replica: what it has not read is kept for it.",
        )
    },
    Spec {
        arguments: &[REPLICA[0], REPLICA[1], Argument::string("sequence")],
        handler: run!(replica::ack),
        ..spec(
            "BUCKET.REPLICA ACK",
            5,
            flags::WRITE,
            "Says up to where a replica has taken over the changes, and renews its lease.",
        )
    },
    Spec {
        arguments: &REPLICA,
        handler: run!(replica::unregister),
        ..spec("BUCKET.REPLICA UNREGISTER", 4, flags::WRITE, "Forgets a replica.")
    },
    Spec {
        complexity: "O(N) in the replicas, and in the changes they are behind",
        arguments: &[Argument::string("bucket")],
        handler: run!(replica::list),
        ..spec("BUCKET.REPLICA LIST", 3, flags::READ, "Lists the replicas of a bucket.")
    },
    Spec {
        complexity: "O(N) in the origins",
        arguments: &[
            Argument::string("bucket"),
            Argument::one_of(
                "change",
                &[
                    Argument::string("origin").after("ADD").multiple(),
                    Argument::keyword("clear", "CLEAR"),
                ],
            )
            .optional(),
        ],
        handler: run!(mirror::origin),
        ..spec(
            "BUCKET.REPLICA ORIGIN",
            -3,
            flags::WRITE,
            "Says, and shows, whose changes a bucket takes over.",
        )
    },
    Spec {
        complexity: "O(N) in the documents",
        arguments: &[
            Argument::string("bucket"),
            Argument::string("origin"),
            Argument::string("sequence"),
            Argument::one_of(
                "document",
                &[
                    Argument::string("document").after("PUT"),
                    Argument::string("_id").after("DELETE"),
                    Argument::string("_id").after("PURGE"),
                ],
            )
            .multiple(),
            Argument::string("_id").after("SNAPSHOT").optional(),
        ],
        handler: run!(mirror::apply),
        ..spec(
            "BUCKET.REPLICA APPLY",
            -7,
            flags::WRITE,
            "Makes documents what they are at the bucket that this one follows.",
        )
    },
];

fn unknown(name: &str) -> Error {
    Error::Syntax(format!("unknown subcommand: '{name}'"))
}
