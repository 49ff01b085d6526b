//! BUCKET.INSERT, QUERY, COUNT, EXPLAIN, UPDATE, DELETE, DELETED, UNDELETE, EXPUNGE, VACUUM, ADVANCE, CLOSE and CURSORS.

mod change;
mod count;
pub(super) mod cursors;
mod delete;
mod deleted;
mod explain;
mod expunge;
mod insert;
mod query;
mod undelete;
mod update;

use bytes::Bytes;

use super::lifecycle::BYPASS;
use super::{Argument, Context, Group, Reply, Services, Spec, flags, run};
use crate::document::{Document, Limits, json};
use crate::session::{DocumentFormat, ObjectIdFormat};

const DIRECTION: &[Argument] =
    &[Argument::keyword("ascending", "ASC"), Argument::keyword("descending", "DESC")];

const BUCKET: Argument = Argument::string("bucket");

const FILTER: Argument = Argument::string("filter");

const PROJECTION: Argument = Argument::string("projection").after("PROJECTION").optional();

const SORT_BY: Argument = Argument::block(
    "sortby",
    &[Argument::string("field").after("SORTBY"), Argument::one_of("direction", DIRECTION)],
)
.optional();

const RESULT_SORT: Argument = Argument::block(
    "resultsort",
    &[Argument::string("field").after("RESULTSORT"), Argument::one_of("direction", DIRECTION)],
)
.optional();

const LIMIT: Argument = Argument::integer("limit").after("LIMIT").optional();

const COLLATION: Argument = Argument::string("collation").after("COLLATION").optional();

const ACTIONS: &[Argument] = &[
    Argument::keyword("query", "QUERY"),
    Argument::keyword("update", "UPDATE"),
    Argument::keyword("delete", "DELETE"),
    Argument::keyword("deleted", "DELETED"),
    Argument::keyword("undelete", "UNDELETE"),
];

const WHICH: &[Argument] =
    &[Argument::string("filter"), Argument::string("removal-id").after("REMOVAL")];

const CURSOR: &[Argument] =
    &[Argument::one_of("operation", ACTIONS), Argument::integer("cursor-id")];

const fn spec(name: &'static str, arity: i8, flags: u16, summary: &'static str) -> Spec {
    Spec {
        name,
        arity,
        flags,
        since: "0.1",
        group: Group::Document,
        summary,
        complexity: "O(1)",
        arguments: CURSOR,
        handler: run!(query::advance),
    }
}

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        complexity: "O(N) in the size of the documents",
        arguments: &[
            BUCKET,
            Argument::string("id").after("OPID").optional(),
            Argument::keyword("docs", "DOCS"),
            Argument::string("document").multiple(),
        ],
        handler: run!(insert::insert),
        ..spec("BUCKET.INSERT", -3, flags::WRITE, "Inserts documents, all of them or none.")
    },
    Spec {
        complexity: "O(1) by _id, else O(N) in the documents examined",
        arguments: &[BUCKET, FILTER, SORT_BY, RESULT_SORT, PROJECTION, LIMIT, COLLATION],
        handler: run!(query::query),
        ..spec("BUCKET.QUERY", -3, flags::READ, "Finds the documents that match a filter.")
    },
    Spec {
        complexity: "O(1) without a filter, else O(N) in the entries or documents examined",
        arguments: &[BUCKET, Argument::string("filter").optional(), COLLATION],
        handler: run!(count::count),
        ..spec("BUCKET.COUNT", -2, flags::READ, "Counts the documents that match a filter.")
    },
    Spec {
        complexity: "O(N) in the indexes; with ANALYZE as the query",
        arguments: &[
            BUCKET,
            FILTER,
            SORT_BY,
            RESULT_SORT,
            PROJECTION,
            LIMIT,
            COLLATION,
            Argument::keyword("analyze", "ANALYZE").optional(),
        ],
        handler: run!(explain::explain),
        ..spec(
            "BUCKET.EXPLAIN",
            -3,
            flags::READ,
            "Shows how a query would be answered, and why so.",
        )
    },
    Spec {
        complexity: "O(1) by _id, else O(N) in the documents examined",
        arguments: &[
            BUCKET,
            FILTER,
            Argument::string("update"),
            SORT_BY,
            LIMIT,
            COLLATION,
            Argument::string("id").after("OPID").optional(),
        ],
        handler: run!(update::update),
        ..spec("BUCKET.UPDATE", -4, flags::WRITE, "Changes the documents that match a filter.")
    },
    Spec {
        complexity: "O(1) by _id, else O(N) in the documents examined",
        arguments: &[
            BUCKET,
            FILTER,
            LIMIT,
            Argument::string("duration").after("RETAIN").optional(),
            Argument::string("reason").after("REASON").optional(),
            Argument::keyword("info", "INFO").optional(),
            COLLATION,
            BYPASS,
            Argument::string("id").after("OPID").optional(),
        ],
        handler: run!(delete::delete),
        ..spec("BUCKET.DELETE", -3, flags::WRITE, "Deletes the documents that match a filter.")
    },
    Spec {
        complexity: "O(1) by _id, O(N) in what the removal deleted, else in all deleted documents",
        arguments: &[
            Argument::string("bucket"),
            Argument::string("filter").optional(),
            Argument::string("removal-id").after("REMOVAL").optional(),
            Argument::integer("limit").after("LIMIT").optional(),
            Argument::string("collation").after("COLLATION").optional(),
        ],
        handler: run!(deleted::list),
        ..spec(
            "BUCKET.DELETED",
            -2,
            flags::READ,
            "Lists deleted documents that can be brought back.",
        )
    },
    Spec {
        complexity: "O(1) by _id, O(N) in what the removal deleted, else in all deleted documents",
        arguments: &[
            Argument::string("bucket"),
            Argument::one_of("which", WHICH),
            Argument::integer("limit").after("LIMIT").optional(),
            Argument::one_of(
                "conflict",
                &[Argument::keyword("fail", "FAIL"), Argument::keyword("skip", "SKIP")],
            )
            .after("ON-CONFLICT")
            .optional(),
            Argument::string("collation").after("COLLATION").optional(),
            Argument::string("id").after("OPID").optional(),
        ],
        handler: run!(undelete::undelete),
        ..spec("BUCKET.UNDELETE", -3, flags::WRITE, "Brings deleted documents back.")
    },
    Spec {
        complexity: "O(1) by _id, O(N) in what the removal deleted, else in all deleted documents",
        arguments: &[
            Argument::string("bucket"),
            Argument::one_of("which", WHICH),
            Argument::string("collation").after("COLLATION").optional(),
            BYPASS,
            Argument::string("id").after("OPID").optional(),
        ],
        handler: run!(expunge::expunge),
        ..spec(
            "BUCKET.EXPUNGE",
            -3,
            flags::WRITE | flags::DANGEROUS | flags::NO_TRANSACTION,
            "Destroys deleted documents before their time.",
        )
    },
    Spec {
        complexity: "O(N) in what has expired",
        arguments: &[Argument::string("bucket")],
        handler: run!(expunge::vacuum),
        ..spec(
            "BUCKET.VACUUM",
            2,
            flags::WRITE | flags::DANGEROUS | flags::NO_TRANSACTION,
            "Destroys the deleted documents that have expired.",
        )
    },
    Spec {
        complexity: "As the command that opened the cursor",
        ..spec("BUCKET.ADVANCE", 3, flags::WRITE, "Goes on with the next batch of a cursor.")
    },
    Spec {
        handler: super::Handler::Sync(cursors::close),
        ..spec("BUCKET.CLOSE", 3, flags::READ | flags::FAST, "Closes a cursor.")
    },
    Spec {
        complexity: "O(N) in the cursors of this session",
        arguments: &[Argument::one_of("operation", ACTIONS).optional()],
        handler: super::Handler::Sync(cursors::cursors),
        ..spec(
            "BUCKET.CURSORS",
            -1,
            flags::READ | flags::FAST,
            "Lists the cursors of this session.",
        )
    },
];

/// What a cursor was opened by. Ids are counted over all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Query,
    Update,
    Delete,
    Deleted,
    Undelete,
}

impl Action {
    const ALL: [Self; 5] = [Self::Query, Self::Update, Self::Delete, Self::Deleted, Self::Undelete];

    fn parse(word: &[u8]) -> super::Result<Self> {
        Self::ALL
            .into_iter()
            .find(|action| word.eq_ignore_ascii_case(action.name().as_bytes()))
            .ok_or_else(|| {
                let word = String::from_utf8_lossy(word);
                super::Error::Syntax(format!("Unknown '{word}' action"))
            })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Query => "QUERY",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Deleted => "DELETED",
            Self::Undelete => "UNDELETE",
        }
    }
}

/// What a document may be, by the settings.
pub(super) fn document_limits(services: &Services) -> Limits {
    let config = services.config.document;
    Limits { depth_max: config.depth_max, bytes_max: config.bytes_max }
}

/// An id in a reply, in the form that the session wants.
pub(super) fn id_reply(ctx: &Context<'_>, id: &bson::oid::ObjectId) -> Reply {
    match ctx.session.attributes.object_id_format {
        ObjectIdFormat::Bytes => Reply::copy(&id.bytes()),
        ObjectIdFormat::Hex => {
            let mut hex = Vec::with_capacity(24);
            json::write_hex(id, &mut hex);
            Reply::Bulk(Bytes::from(hex))
        }
    }
}

/// A document in a reply, in the form that the session wants.
pub(super) fn document_reply(format: DocumentFormat, document: Document) -> Reply {
    Reply::Bulk(match format {
        DocumentFormat::Bson => document.into_bytes(),
        DocumentFormat::Json => Bytes::from(document.to_json()),
    })
}
