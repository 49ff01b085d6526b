//! The paths of an update as a tree.

use std::collections::HashMap;

use super::array::{Pull, Push};
use super::operand::Operand;
use crate::error::{Error, Result};

/// What is done at the end of a path.
#[derive(Debug)]
pub(super) enum Operation {
    Set(Operand),
    Unset,
    Increment(Operand),
    Multiply(Operand),
    Minimum(Operand),
    Maximum(Operand),
    Push(Push),
    AddToSet(Vec<Operand>),
    Pull(Pull),
    /// The value goes elsewhere.
    RenameFrom,
    /// The value of this source comes here, if there is one.
    RenameTo(usize),
}

/// An operation with its name and its path, which its errors have.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) operator: &'static str,
    pub(super) path: Box<str>,
    pub(super) operation: Operation,
}

impl Leaf {
    /// An error that says which operator failed where.
    pub(super) fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::syntax(format!("{} '{}': {what}", self.operator, self.path))
    }

    /// Whether it makes a field that is missing.
    fn creates(&self, sources: &[Option<Operand>]) -> bool {
        match self.operation {
            Operation::Unset | Operation::Pull(_) | Operation::RenameFrom => false,
            Operation::RenameTo(source) => sources.get(source).is_some_and(Option::is_some),
            Operation::Set(_)
            | Operation::Increment(_)
            | Operation::Multiply(_)
            | Operation::Minimum(_)
            | Operation::Maximum(_)
            | Operation::Push(_)
            | Operation::AddToSet(_) => true,
        }
    }
}

/// Which child of a value a step means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Child {
    Name(Box<str>),
    /// The element that the filter matched in this one of [`super::Update::first`].
    First(usize),
    Every,
    /// The elements that this one of [`super::Update::conditions`] accepts.
    Filtered(usize),
}

/// A place in a document.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) leaf: Option<Leaf>,
    /// In the order in which the update names them.
    pub(super) children: Vec<(Child, Node)>,
    /// Where the children with a name are.
    names: HashMap<Box<str>, usize>,
    /// Where the others are.
    positional: Vec<usize>,
}

impl Node {
    /// Adds a path. No place may be changed twice.
    pub(super) fn insert(&mut self, path: &[Child], leaf: Leaf) -> Result<()> {
        let Some((child, rest)) = path.split_first() else {
            if let Some(other) = self.leaf.as_ref().or_else(|| self.first_leaf()) {
                return Err(conflict(&leaf, other));
            }
            self.leaf = Some(leaf);
            return Ok(());
        };
        if let Some(other) = &self.leaf {
            return Err(conflict(&leaf, other));
        }
        let place = self.place_of(child);
        match self.children.get_mut(place) {
            Some((_, node)) => node.insert(rest, leaf),
            None => Ok(()),
        }
    }

    fn place_of(&mut self, child: &Child) -> usize {
        let next = self.children.len();
        let known = match child {
            Child::Name(name) => *self.names.entry(name.clone()).or_insert(next),
            Child::First(_) | Child::Every | Child::Filtered(_) => {
                let mut places = self.positional.iter();
                let same = |place: &&usize| {
                    self.children.get(**place).is_some_and(|(other, _)| other == child)
                };
                let known = places.find(same).copied();
                if known.is_none() {
                    self.positional.push(next);
                }
                known.unwrap_or(next)
            }
        };
        if known == next {
            self.children.push((child.clone(), Self::default()));
        }
        known
    }

    fn first_leaf(&self) -> Option<&Leaf> {
        self.children.iter().find_map(|(_, node)| node.leaf.as_ref().or_else(|| node.first_leaf()))
    }

    /// Whether any child has a name.
    pub(super) fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// The child of a document's field.
    pub(super) fn named(&self, name: &str) -> Option<&Self> {
        // Most nodes have one child or two: comparing is cheaper than hashing.
        if self.children.len() <= 4 {
            return self.children.iter().find_map(|(child, node)| match child {
                Child::Name(own) if **own == *name => Some(node),
                _ => None,
            });
        }
        self.children.get(*self.names.get(name)?).map(|(_, node)| node)
    }

    /// The children that mean elements by something else than their position.
    pub(super) fn positional(&self) -> impl Iterator<Item = &(Child, Self)> {
        self.positional.iter().filter_map(|place| self.children.get(*place))
    }

    /// Whether anything below makes a field where nothing is.
    pub(super) fn creates(&self, sources: &[Option<Operand>]) -> bool {
        match &self.leaf {
            Some(leaf) => leaf.creates(sources),
            None => self
                .children
                .iter()
                .any(|(child, node)| matches!(child, Child::Name(_)) && node.creates(sources)),
        }
    }

    /// The operation that makes something here, for an error.
    pub(super) fn creator(&self, sources: &[Option<Operand>]) -> Option<&Leaf> {
        match &self.leaf {
            Some(leaf) => leaf.creates(sources).then_some(leaf),
            None => self.children.iter().find_map(|(child, node)| match child {
                Child::Name(_) => node.creator(sources),
                Child::First(_) | Child::Every | Child::Filtered(_) => None,
            }),
        }
    }

    /// Some operation at or below this place, for an error.
    pub(super) fn any_leaf(&self) -> Option<&Leaf> {
        self.leaf.as_ref().or_else(|| self.first_leaf())
    }
}

/// The error for two operations on one place.
pub(super) fn conflict(leaf: &Leaf, other: &Leaf) -> Error {
    Error::syntax(format!(
        "{} '{}' conflicts with {} '{}': one update changes a place once",
        leaf.operator, leaf.path, other.operator, other.path
    ))
}
