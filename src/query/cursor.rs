//! What a session keeps of a query that may have more to give.

use std::sync::Arc;

use bson::oid::ObjectId;
use bytes::Bytes;

use super::{
    ast::Ast,
    collate::{Collate, Under},
    evaluate::Asking,
    execute::{Position, Query},
    projection::Projection,
    sort::Sort,
};
use crate::document::{Document, json};
use crate::error::Result;
use crate::value::{Collator, Steps};

/// The filter's text is kept up to here, for BUCKET.CURSORS.
const TEXT_BYTES_MAX: usize = 1024;

/// A whole query as the client asked it: what to find and what to give back of it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub query: Query,
    /// Order within each batch.
    pub result_sort: Option<Sort>,
    pub projection: Option<Projection>,
    /// The whole filter, which a positional projection refers to.
    pub filter: Ast,
    /// What was said about collation; filter and orders are already under it.
    pub collate: Collate,
    under: Under<Self>,
}

impl Asked {
    /// A query for documents as they are, by this filter.
    pub fn new(query: Query, filter: Ast, collate: Collate) -> Self {
        Self::shown(query, filter, collate, (None, None))
    }

    /// A query for documents shown so.
    pub fn shown(
        query: Query,
        filter: Ast,
        collate: Collate,
        (result_sort, projection): (Option<Sort>, Option<Projection>),
    ) -> Self {
        let own = if let Collate::By(collator) = &collate { Some(collator.clone()) } else { None };
        let asked =
            Self { query, result_sort, projection, filter, collate, under: Under::default() };
        match own {
            Some(collator) => asked.collated(&collator),
            None => asked,
        }
    }

    /// The same under the bucket's default, where the command did not say.
    #[must_use]
    pub fn in_bucket(self: &Arc<Self>, default: Option<&Collator>) -> Arc<Self> {
        match default {
            Some(collator) if self.collate == Collate::Bucket => {
                self.under.get(collator, || Self::clone(self).collated(collator))
            }
            _ => Arc::clone(self),
        }
    }

    /// The same under a collation: the filter and both orders.
    #[must_use]
    pub fn collated(self, collator: &Collator) -> Self {
        Self {
            query: self.query.collated(collator),
            result_sort: self.result_sort.map(|sort| sort.collated(collator)),
            projection: self.projection,
            filter: self.filter.collated(collator),
            collate: Collate::By(collator.clone()),
            under: Under::default(),
        }
    }

    /// Sorts and projects what a batch found.
    ///
    /// # Errors
    /// A document in which it takes more than so many steps to find the element of a positional projection.
    pub async fn shape(
        &self,
        mut documents: Vec<Document>,
        steps_max: u64,
    ) -> Result<Vec<Document>> {
        if let Some(sort) = &self.result_sort {
            documents.sort_by(|left, right| {
                sort.compare(&sort.whole_key(left.raw()), &sort.whole_key(right.raw()))
            });
        }
        let Some(projection) = &self.projection else { return Ok(documents) };
        let mut asking = Asking::new(steps_max);
        for document in &mut documents {
            let id = document.object_id().unwrap_or(ObjectId::from_bytes([0; 12]));
            let apply = |steps: &Steps| projection.apply(document, &self.filter, steps);
            let (projected, _) = asking.ask(&id, apply).await?;
            *document = projected;
        }
        Ok(documents)
    }
}

/// One cursor of BUCKET.QUERY. It keeps no snapshot and no handle of the
/// bucket: each use opens the bucket by its name again.
#[derive(Clone, Debug)]
pub struct QueryCursor {
    pub namespace: String,
    pub bucket: String,
    text: String,
    /// `None` once exhausted.
    rest: Option<(Arc<Asked>, Position)>,
}

impl QueryCursor {
    /// A cursor behind its first batch. `filter` is the argument as it came.
    pub fn new(
        namespace: &str,
        bucket: &str,
        filter: &Bytes,
        asked: Arc<Asked>,
        next: Position,
    ) -> Self {
        let text = filter_text(filter);
        let mut cursor = Self {
            namespace: namespace.to_owned(),
            bucket: bucket.to_owned(),
            text,
            rest: Some((asked, Position::Start)),
        };
        cursor.advance(next);
        cursor
    }

    /// The filter's text as it was sent, a BSON one as JSON; cut when long.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What to run for the next batch, and from where; `None` when there is no more.
    pub fn rest(&self) -> Option<(Arc<Asked>, Position)> {
        self.rest.clone()
    }

    /// Whether there is no more.
    pub fn is_exhausted(&self) -> bool {
        self.rest.is_none()
    }

    /// Notes where the next batch begins; at the end everything but the text is let go.
    pub fn advance(&mut self, next: Position) {
        self.rest = match (self.rest.take(), next) {
            (_, Position::End) | (None, _) => None,
            (Some((asked, _)), next) => Some((asked, next)),
        };
    }
}

/// A filter as BUCKET.CURSORS shows it: as it was sent, a BSON one as JSON; cut when long.
pub fn filter_text(filter: &Bytes) -> String {
    let mut json = Vec::new();
    let text = match crate::value::Raw::new(filter) {
        Some(raw) => {
            json::write(raw, &mut json);
            json.as_slice()
        }
        None => filter,
    };
    let text = String::from_utf8_lossy(text);
    if text.len() <= TEXT_BYTES_MAX {
        return text.into_owned();
    }
    let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    format!("{}...", text.get(..end).unwrap_or_default())
}
