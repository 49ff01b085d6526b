//! Documents made of what entries hold, as far as they are needed; where an
//! entry does not hold it, the document is read.

use bson::oid::ObjectId;

use super::reading::Reading;
use crate::document::{self, Builder, Document, Stored};
use crate::error::Result;
use crate::index::{Covered, Index};
use crate::query::plan::{Known, Routed};
use crate::value::{Segment, raw::tag};

/// The fields of an index that make up all that is needed.
pub(super) struct Cover<'a> {
    index: &'a Index,
    positions: Vec<usize>,
}

/// A document that is wanted, and what the entry that led to it holds.
pub(super) type Hit = (ObjectId, Option<Covered>);

/// A document that was found.
pub(super) enum Found {
    /// As it is stored.
    Stored(Stored),
    /// What is needed of it, without having read it, and the entry that says so.
    Covered(Document, Covered),
}

/// One value on its way into a document.
#[derive(Clone, Copy)]
struct Held<'a> {
    steps: &'a [Segment],
    tag: u8,
    bytes: &'a [u8],
}

impl<'a> Cover<'a> {
    /// That of a route, where it has one.
    pub(super) fn of(known: &Known<'a>, routed: &Routed) -> Option<Self> {
        let positions = routed.cover.clone()?;
        let index = *known.indexes.get(routed.route.only_leaf()?.index)?;
        Some(Self { index, positions })
    }

    /// What is needed of a document, in its order. `None` where the entry does not say enough.
    fn document(&self, id: &ObjectId, covered: &Covered) -> Option<Document> {
        let id = id.bytes();
        let fields = self.index.fields().len();
        let mut all = Vec::with_capacity(self.positions.len());
        for position in &self.positions {
            // What stands in place of a field inside a document cannot be told when it is missing.
            let (_, path) = self.index.field(*position)?;
            if covered.field(*position)?.is_none() && path.segments().len() > 1 {
                return None;
            }
        }
        let mut out = Builder::new();
        for position in covered.order(fields) {
            if position == fields {
                write(&mut out, &all, 0);
                all.clear();
                out.value(b"_id", tag::OBJECT_ID, &id);
            } else if self.positions.contains(&position)
                && let Some((tag, bytes)) = covered.field(position)?
            {
                let (_, path) = self.index.field(position)?;
                all.push(Held { steps: path.segments(), tag, bytes });
            }
        }
        write(&mut out, &all, 0);
        Some(out.finish())
    }
}

/// Writes values that follow each other; those below one name into one document.
fn write(out: &mut Builder, all: &[Held<'_>], depth: usize) {
    let below_one = |left: &Held<'_>, right: &Held<'_>| {
        let name = |held: &Held<'_>| held.steps.get(depth).map(|step| step.name.clone());
        left.steps.len() > depth + 1 && right.steps.len() > depth + 1 && name(left) == name(right)
    };
    for group in all.chunk_by(below_one) {
        let Some(first) = group.first() else { continue };
        let Some(step) = first.steps.get(depth) else { continue };
        if first.steps.len() == depth + 1 {
            out.value(step.name.as_bytes(), first.tag, first.bytes);
        } else {
            out.nested(step.name.as_bytes(), tag::DOCUMENT, |out| write(out, group, depth + 1));
        }
    }
}

/// What there is under these ids, in their order: from the entries where they
/// say enough, all others read at the same time.
pub(super) async fn find(
    reading: &Reading<'_>,
    cover: Option<&Cover<'_>>,
    hits: Vec<Hit>,
) -> Result<Vec<(ObjectId, Found)>> {
    let mut made = Vec::with_capacity(hits.len());
    let mut wanted = Vec::new();
    for (id, covered) in hits {
        let held = covered.and_then(|covered| Some((cover?.document(&id, &covered)?, covered)));
        if held.is_none() {
            wanted.push(id);
        }
        made.push((id, held));
    }
    let read = document::get_many(reading.txn, reading.home, &wanted, reading.read).await?;
    let mut read = read.into_iter().peekable();
    let found = made.into_iter().filter_map(|(id, held)| match held {
        Some((document, covered)) => Some((id, Found::Covered(document, covered))),
        None => read
            .next_if(|(read_id, _)| *read_id == id)
            .map(|(id, stored)| (id, Found::Stored(stored))),
    });
    Ok(found.collect())
}

impl Found {
    /// The entry that it was made of, where it was not read.
    pub(super) fn entry(&self) -> Option<Covered> {
        match self {
            Self::Stored(_) => None,
            Self::Covered(_, covered) => Some(covered.clone()),
        }
    }

    /// The document, or what is needed of it; one that is read is counted.
    pub(super) async fn load(self, reading: &mut Reading<'_>) -> Result<Document> {
        match self {
            Self::Covered(document, _) => Ok(document),
            Self::Stored(stored) => {
                let document = stored.load(reading.txn, reading.home, reading.read).await?;
                reading.examined += 1;
                reading.examined_bytes += document.bytes().len();
                Ok(document)
            }
        }
    }
}
