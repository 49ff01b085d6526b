//! Which way was taken for filters of a shape.
//!
//! The shape of a filter is all of it but its values: paths, operators, kinds of
//! values, lengths of lists by their magnitude. What is remembered is which
//! indexes were chosen and how many rows that was thought to be, never a bound
//! or an answer, so whatever is found here can make a query slow but not wrong.
//!
//! It lives with the handle of its bucket, and so ends with whatever changes the indexes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use super::choose::Question;
use super::{Access, Choice, Figures};
use crate::query::ast::{AllMember, Ast, Members, Operand, Test};
use crate::query::execute::Purpose;
use crate::query::sort::Direction;

/// Shapes of one bucket.
const SHAPES_MAX: usize = 200;

/// What is remembered for one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    pub choice: Choice,
    /// Rows that it was thought to lead to.
    pub rows: f64,
}

/// What queries remember of a bucket as long as its handle lives.
#[derive(Debug, Default)]
pub struct Memory {
    figures: Mutex<Option<Arc<Figures>>>,
    /// Somebody is reading them again.
    refreshing: AtomicBool,
    shapes: Mutex<Shapes>,
}

#[derive(Debug, Default)]
struct Shapes {
    by_shape: HashMap<u128, Remembered>,
    /// Oldest first.
    order: VecDeque<u128>,
}

impl Memory {
    /// The figures, unless the caller is the one to read them: when there are
    /// none, or stale ones that nobody is reading again.
    pub(crate) fn figures(&self) -> Result<Arc<Figures>, Refresh<'_>> {
        match lock(&self.figures).as_ref() {
            Some(figures)
                if !figures.are_stale() || self.refreshing.swap(true, Ordering::AcqRel) =>
            {
                Ok(Arc::clone(figures))
            }
            Some(_) => Err(Refresh { memory: self, first: false }),
            None => Err(Refresh { memory: self, first: true }),
        }
    }

    /// Keeps figures that were just read.
    pub fn keep_figures(&self, figures: Arc<Figures>) {
        *lock(&self.figures) = Some(figures);
    }

    /// What was chosen for a shape.
    pub fn find(&self, shape: u128) -> Option<Remembered> {
        lock(&self.shapes).by_shape.get(&shape).cloned()
    }

    /// Remembers a choice; the oldest is forgotten for it.
    pub fn remember(&self, shape: u128, remembered: Remembered) {
        let mut shapes = lock(&self.shapes);
        if shapes.by_shape.insert(shape, remembered).is_none() {
            shapes.order.push_back(shape);
        }
        if shapes.order.len() > SHAPES_MAX
            && let Some(oldest) = shapes.order.pop_front()
        {
            shapes.by_shape.remove(&oldest);
        }
    }
}

/// Whose turn it is to read the figures. Given up when dropped.
#[derive(Debug)]
pub(crate) struct Refresh<'a> {
    memory: &'a Memory,
    /// There are none that others could use meanwhile, so they read them as well.
    first: bool,
}

impl Refresh<'_> {
    /// Keeps figures that were just read.
    pub(crate) fn keep(self, figures: Arc<Figures>) {
        self.memory.keep_figures(figures);
    }
}

impl Drop for Refresh<'_> {
    fn drop(&mut self) {
        if !self.first {
            self.memory.refreshing.store(false, Ordering::Release);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Remembered {
    /// Whether it still fits: for another value of the same shape a way may lead to far more.
    pub fn fits(&self, rows: f64) -> bool {
        let (least, most) = if self.rows < rows { (self.rows, rows) } else { (rows, self.rows) };
        most < 100.0 || most < least * 8.0
    }
}

/// The shape of a question.
pub(crate) fn shape(question: &Question<'_>) -> u128 {
    let mut hash = Hash(Xxh3::new());
    for part in question.parts {
        hash.ast(part);
    }
    hash.tag(match question.access {
        Access::Nothing => 1,
        Access::Points(_) => 2,
        Access::Range { .. } => 3,
    });
    let settled = question.exact.map_or(&[][..], |order| &order.fields);
    // An index that may begin an order may not be one that can go on with it.
    for sort in question.order.into_iter().chain(settled) {
        hash.text(sort.path.text());
        hash.tag(u8::from(sort.direction == Direction::Descending));
    }
    hash.tag(question.exact.map_or(2, |order| u8::from(order.ids == Direction::Descending)));
    for field in question.fields.unwrap_or_default() {
        hash.text(field.text());
    }
    hash.tag(u8::from(question.fields.is_some()));
    hash.number(question.limit);
    hash.tag(u8::from(question.purpose == Purpose::Change));
    hash.tag(u8::from(question.any_order));
    hash.0.digest128()
}

struct Hash(Xxh3);

impl Hash {
    fn tag(&mut self, tag: u8) {
        self.0.update(&[tag]);
    }

    fn text(&mut self, text: &str) {
        self.0.update(text.as_bytes());
        self.tag(0);
    }

    /// Its magnitude.
    fn number(&mut self, number: usize) {
        self.tag(u8::try_from(number.checked_ilog2().unwrap_or_default()).unwrap_or(u8::MAX));
    }

    fn operand(&mut self, operand: &Operand) {
        self.text(&format!("{:?}", operand.bracket()));
    }

    fn ast(&mut self, filter: &Ast) {
        match filter {
            Ast::All => self.tag(1),
            Ast::Nothing => self.tag(2),
            Ast::And(parts) => self.list(3, parts),
            Ast::Or(parts) => self.list(4, parts),
            Ast::Not(part) => self.list(5, std::slice::from_ref(part)),
            Ast::Field { path, test } => {
                self.tag(6);
                self.text(path.text());
                self.test(test);
            }
        }
        self.tag(255);
    }

    fn list(&mut self, tag: u8, parts: &[Ast]) {
        self.tag(tag);
        for part in parts {
            self.ast(part);
        }
    }

    fn test(&mut self, test: &Test) {
        match test {
            Test::Equal(operand) => {
                self.tag(1);
                self.operand(operand);
            }
            Test::NotEqual(operand) => {
                self.tag(2);
                self.operand(operand);
            }
            Test::Compare(comparison, operand) => {
                self.text(&format!("{comparison:?}"));
                self.operand(operand);
            }
            Test::In(members) => self.members(members),
            Test::All(members) => {
                self.tag(4);
                for member in members {
                    match member {
                        AllMember::Equal(operand) => self.operand(operand),
                        AllMember::Matches(_) => self.tag(1),
                        AllMember::Element { filter, .. } => self.ast(filter),
                    }
                }
            }
            Test::Size(_) => self.tag(5),
            Test::Exists => self.tag(6),
            Test::Matches(_) => self.tag(7),
            Test::Element { form, filter } => {
                self.text(&format!("{form:?}"));
                self.ast(filter);
            }
        }
    }

    fn members(&mut self, members: &Members) {
        self.tag(3);
        self.number(members.values().len());
        self.number(members.patterns().len());
        self.tag(u8::from(members.has_null()));
    }
}
