//! Which collation a query has, and putting a filter under it.
//!
//! A filter is parsed before its bucket is known, so the bucket's default comes
//! to it afterwards: a copy whose operands are compared by the collation. A
//! pattern is searched for as it is written, and ids have no strings.

use std::sync::{Arc, Mutex, PoisonError};

use super::ast::{AllMember, Ast, Test};
use super::execute::Query;
use crate::value::Collator;

/// What a command says about collation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Collate {
    /// Nothing: the default of the bucket, if it has one.
    #[default]
    Bucket,
    /// `{"locale": "simple"}`: by bytes, whatever the bucket's default.
    Bytes,
    /// By this collation.
    By(Collator),
}

impl Collate {
    /// The collation that counts, for a bucket with this default.
    pub fn effective<'a>(&'a self, bucket: Option<&'a Collator>) -> Option<&'a Collator> {
        match self {
            Self::Bucket => bucket,
            Self::Bytes => None,
            Self::By(collator) => Some(collator),
        }
    }
}

/// What something is under a collation, made once for the one that was asked last: the batches
/// and attempts of a command all ask for the same.
#[derive(Debug)]
pub struct Under<T>(Mutex<Option<(Collator, Arc<T>)>>);

impl<T> Default for Under<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Clone for Under<T> {
    /// A copy may become another thing, so it remembers nothing.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> Under<T> {
    /// The thing under this collation.
    pub fn get(&self, collator: &Collator, make: impl FnOnce() -> T) -> Arc<T> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((last, made)) if last == collator => Arc::clone(made),
            _ => {
                let made = Arc::new(make());
                *known = Some((collator.clone(), Arc::clone(&made)));
                made
            }
        }
    }
}

impl Query {
    /// The same query under a collation.
    #[must_use]
    pub fn collated(self, collator: &Collator) -> Self {
        Self {
            plan: Arc::new(Arc::unwrap_or_clone(self.plan).collated(collator)),
            order: self.order.map(|sort| sort.collated(collator)),
            ..self
        }
    }
}

impl Ast {
    /// The same filter with its strings compared by a collation.
    #[must_use]
    pub fn collated(self, collator: &Collator) -> Self {
        let all = |parts: Vec<Self>| {
            parts.into_iter().map(|part| part.collated(collator)).collect::<Vec<_>>()
        };
        match self {
            Self::All | Self::Nothing => self,
            Self::And(parts) => Self::And(all(parts)),
            Self::Or(parts) => Self::Or(all(parts)),
            Self::Not(part) => Self::Not(Box::new(part.collated(collator))),
            Self::Field { path, test } => Self::Field { path, test: test.collated(collator) },
        }
    }
}

impl Test {
    fn collated(self, collator: &Collator) -> Self {
        match self {
            Self::Equal(operand) => Self::Equal(operand.collated(collator)),
            Self::NotEqual(operand) => Self::NotEqual(operand.collated(collator)),
            Self::Compare(comparison, operand) => {
                Self::Compare(comparison, operand.collated(collator))
            }
            Self::In(members) => Self::In(members.collated(collator)),
            Self::All(members) => {
                Self::All(members.into_iter().map(|member| member.collated(collator)).collect())
            }
            Self::Element { form, filter } => {
                Self::Element { form, filter: Box::new(filter.collated(collator)) }
            }
            Self::Size(_) | Self::Exists | Self::Matches(_) => self,
        }
    }
}

impl AllMember {
    fn collated(self, collator: &Collator) -> Self {
        match self {
            Self::Equal(operand) => Self::Equal(operand.collated(collator)),
            Self::Element { form, filter } => {
                Self::Element { form, filter: Box::new(filter.collated(collator)) }
            }
            Self::Matches(_) => self,
        }
    }
}
