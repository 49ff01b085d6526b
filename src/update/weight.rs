//! About how many bytes filters and updates hold: what a session may keep of them is bounded.
//!
//! Rather too much than too little is counted. Not here: the bound (`session`).

use regex::RegexBuilder;

use super::Update;
use super::tree::{Child, Leaf, Node, Operation};
use crate::query::{
    AllMember, Asked, Ast, Members, Operand, Path, Pattern, Place, Position, Sort, Test,
};
use crate::value::Value;

/// Most patterns are smaller than this when they are compiled, and those that are not may have as
/// much as a filter may give them.
const PATTERN_BYTES: usize = 32 << 10;
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What was asked by a command with this projection, if any; while it is searched for, its
/// filter may stand under the collation of the bucket beside how it was written.
pub fn asked(asked: &Asked, projection_bytes: usize) -> usize {
    let copies = 4;
    let sorts = asked.query.order.iter().chain(&asked.result_sort);
    let paths = sorts.map(|sort| &sort.path).chain(asked.query.fields.iter().flatten());
    // A name of a projection takes two bytes at least, and becomes a node of its tree.
    size_of::<Asked>()
        + copies * filter(&asked.filter)
        + paths.map(path).sum::<usize>()
        + 64 * projection_bytes
}

/// Where a cursor goes on.
pub fn position(position: &Position) -> usize {
    let Position::Behind(place) = position else { return size_of::<Position>() };
    let fields = place.order.fields.iter().map(|sort| size_of::<Sort>() + path(&sort.path));
    let keys = place.keys.iter().map(operand);
    size_of::<Position>() + size_of::<Place>() + fields.chain(keys).sum::<usize>()
}

/// A filter.
pub fn filter(ast: &Ast) -> usize {
    let inside = match ast {
        Ast::All | Ast::Nothing => 0,
        Ast::And(parts) | Ast::Or(parts) => parts.iter().map(filter).sum(),
        Ast::Not(part) => filter(part),
        Ast::Field { path: of, test } => path(of) + self::test(test),
    };
    size_of::<Ast>() + inside
}

fn path(path: &Path) -> usize {
    2 * path.text().len() + size_of_val(path.segments())
}

fn test(test: &Test) -> usize {
    match test {
        Test::Equal(value) | Test::NotEqual(value) | Test::Compare(_, value) => operand(value),
        Test::In(list) => members(list),
        Test::All(list) => list.iter().map(member).sum(),
        Test::Size(_) | Test::Exists => 0,
        Test::Matches(pattern) => self::pattern(pattern),
        Test::Element { filter, .. } => self::filter(filter),
    }
}

fn members(members: &Members) -> usize {
    let patterns = members.patterns().iter().map(pattern);
    members.values().iter().map(operand).chain(patterns).sum()
}

fn member(member: &AllMember) -> usize {
    let inside = match member {
        AllMember::Equal(value) => operand(value),
        AllMember::Matches(pattern) => self::pattern(pattern),
        AllMember::Element { filter, .. } => self::filter(filter),
    };
    size_of::<AllMember>() + inside
}

fn operand(operand: &Operand) -> usize {
    size_of::<Operand>() + value(&operand.value())
}

fn value(value: &Value<'_>) -> usize {
    match value {
        Value::String(text) | Value::Symbol(text) | Value::Code(text) => text.len(),
        Value::Document(raw) | Value::Array(raw) => raw.bytes().len(),
        Value::CodeWithScope { code, scope } => code.len() + scope.bytes().len(),
        Value::Binary { bytes, .. } => bytes.len(),
        _ => size_of::<Value<'_>>(),
    }
}

fn pattern(pattern: &Pattern) -> usize {
    let small = RegexBuilder::new(pattern.text()).size_limit(PATTERN_BYTES).build().is_ok();
    size_of::<Pattern>() + if small { PATTERN_BYTES } else { PATTERN_BYTES_MAX }
}

impl Update {
    /// About how many bytes it holds.
    pub fn weight(&self) -> usize {
        // Beside how they were written they may stand under the collation of the bucket.
        let conditions = self.conditions.iter().map(|one| 2 * filter(one.filter()));
        let paths = self.first.iter().chain(&self.sources).map(path);
        size_of::<Self>() + node(&self.root) + conditions.chain(paths).sum::<usize>()
    }
}

fn node(of: &Node) -> usize {
    let below = of.children.iter().map(|(child, below)| {
        let name = match child {
            // It stands in the list of children and among the names.
            Child::Name(name) => 2 * (name.len() + size_of::<(Box<str>, usize)>()),
            Child::First(_) | Child::Every | Child::Filtered(_) => size_of::<usize>(),
        };
        size_of::<Child>() + name + node(below)
    });
    size_of::<Node>() + of.leaf.as_ref().map_or(0, leaf) + below.sum::<usize>()
}

fn leaf(leaf: &Leaf) -> usize {
    let operands = match &leaf.operation {
        Operation::Set(operand)
        | Operation::Increment(operand)
        | Operation::Multiply(operand)
        | Operation::Minimum(operand)
        | Operation::Maximum(operand) => operand.bytes.len(),
        Operation::Push(push) => push.weight(),
        Operation::AddToSet(operands) => {
            operands.iter().map(|one| size_of_val(one) + one.bytes.len()).sum()
        }
        Operation::Unset | Operation::Pull(_) | Operation::RenameFrom | Operation::RenameTo(_) => 0,
    };
    leaf.path.len() + operands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Limits, parse};

    #[track_caller]
    fn holds(text: &str, least: usize, most: usize) {
        let filter = parse(&text.to_owned().into(), &Limits::default()).unwrap();
        let weight = super::filter(&filter);
        assert!((least..most).contains(&weight), "{weight}");
    }

    #[test]
    fn a_filter_holds_what_it_lists_and_what_its_patterns_compile_to() {
        holds("{}", 1, 500);
        holds(&format!("{{a: '{}'}}", "x".repeat(100_000)), 100_000, 101_000);
        let numbers = vec!["1"; 9_000].join(",");
        holds(&format!("{{a: {{$all: [{numbers}]}}}}"), 9_000 * size_of::<AllMember>(), 4 << 20);
        holds("{a: {$regex: '^x'}}", 32 << 10, 40 << 10);
        holds("{a: {$in: [{$regex: '\\\\w{5}'}]}}", 1 << 20, 2 << 20);
    }

    #[test]
    fn an_update_holds_its_values_paths_and_conditions() {
        let weight = |text: &str| {
            Update::parse(&text.to_owned().into(), &Limits::default(), 8 << 20).unwrap().weight()
        };
        let long = "x".repeat(100_000);
        let small = weight("{$set: {a: 1}}");
        assert!(small < 2_000, "{small}");
        for text in [
            format!("{{$set: {{a: '{long}'}}}}"),
            format!("{{$push: {{a: {{$each: ['{long}']}}}}}}"),
            format!("{{$addToSet: {{a: '{long}'}}}}"),
            format!("{{$pull: {{a: '{long}'}}}}"),
        ] {
            assert!((100_000..=small + 210_000).contains(&weight(&text)), "{}", weight(&text));
        }
        let paths: Vec<String> = (0..500).map(|n| format!("'a{n}.b.c.d': 1")).collect();
        let paths = weight(&format!("{{$set: {{{}}}}}", paths.join(",")));
        assert!(paths > 500 * 4 * size_of::<Node>(), "{paths}");
    }
}
