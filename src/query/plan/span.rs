//! Parts of an index: ranges of the bytes that values are kept as there.

use crate::codec::keys;
use crate::value::{Bracket, key};

/// A range of encoded values of one field, from `begin` to before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub begin: Vec<u8>,
    pub end: Vec<u8>,
    /// All values in it are equal, so what it holds is in the order of ids.
    pub point: bool,
}

impl Span {
    /// All values that have this key.
    pub fn point(key: Vec<u8>) -> Self {
        Self { end: keys::after(&key), begin: key, point: true }
    }

    /// From the first value of a kind to the last.
    pub fn kind(bracket: Bracket) -> Self {
        let (first, last) = key::codes(bracket);
        // The codes of values are far from 255.
        Self { begin: vec![first], end: vec![last + 1], point: false }
    }

    /// Every value there is.
    pub fn everything() -> Self {
        Self { begin: Vec::new(), end: vec![0xff], point: false }
    }

    /// The same values where an index keeps them with all bytes inverted.
    #[must_use]
    pub fn inverted(&self) -> Self {
        let invert = |edge: &[u8]| -> Vec<u8> { edge.iter().map(|byte| !byte).collect() };
        if self.point {
            return Self::point(invert(&self.begin));
        }
        // Whatever begins with an edge lay behind it and lies before it now.
        let turned =
            |edge: &[u8]| if edge.is_empty() { vec![0xff] } else { keys::after(&invert(edge)) };
        Self { begin: turned(&self.end), end: turned(&self.begin), point: false }
    }

    fn is_empty(&self) -> bool {
        self.begin >= self.end
    }

    /// Whether a key lies in it.
    pub fn holds(&self, key: &[u8]) -> bool {
        *self.begin <= *key && *key < *self.end
    }
}

/// The spans that a condition leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans {
    /// In order, disjoint and with a gap between each two.
    list: Vec<Span>,
    /// A document has an entry in one of them only if it satisfies the
    /// condition; the other way round is always so.
    pub exact: bool,
}

impl Spans {
    /// Sorts the spans and joins those that touch.
    pub fn new(mut list: Vec<Span>, exact: bool) -> Self {
        list.retain(|span| !span.is_empty());
        list.sort_by(|left, right| left.begin.cmp(&right.begin));
        let mut joined: Vec<Span> = Vec::with_capacity(list.len());
        for span in list {
            match joined.last_mut() {
                // Two points that touch are two values: each stays in the order of ids.
                Some(last)
                    if span.begin < last.end
                        || (span.begin == last.end && !(span.point && last.point)) =>
                {
                    if *last != span {
                        last.point = false;
                    }
                    if last.end < span.end {
                        last.end = span.end;
                    }
                }
                _ => joined.push(span),
            }
        }
        Self { list: joined, exact }
    }

    /// Every value.
    pub fn everything() -> Self {
        Self { list: vec![Span::everything()], exact: true }
    }

    /// The spans, in order.
    pub fn list(&self) -> &[Span] {
        &self.list
    }

    /// Whether nothing can be in them.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether each of them is one value.
    pub fn are_points(&self) -> bool {
        self.list.iter().all(|span| span.point)
    }

    /// Whether one of them holds a key.
    pub fn hold(&self, key: &[u8]) -> bool {
        self.list.iter().any(|span| span.holds(key))
    }

    /// Whether one of them holds what stands for a missing field.
    pub fn hold_missing(&self) -> bool {
        let mut missing = Vec::with_capacity(1);
        key::missing(&mut missing);
        self.hold(&missing)
    }

    /// What lies in both. Only sound where one entry has to satisfy both conditions.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut left, mut right) = (self.list.iter().peekable(), other.list.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let span = Span {
                begin: a.begin.clone().max(b.begin.clone()),
                end: a.end.clone().min(b.end.clone()),
                point: a.point || b.point,
            };
            let left_ends_first = a.end <= b.end;
            if !span.is_empty() {
                both.push(span);
            }
            let _passed = if left_ends_first { left.next() } else { right.next() };
        }
        Self::new(both, self.exact && other.exact)
    }

    /// The same values where an index keeps them with all bytes inverted.
    #[must_use]
    pub fn inverted(&self) -> Self {
        Self::new(self.list.iter().map(Span::inverted).collect(), self.exact)
    }

    /// What lies in any of them, put in order once.
    #[must_use]
    pub fn any(all: Vec<Self>) -> Self {
        let exact = all.iter().all(|spans| spans.exact);
        Self::new(all.into_iter().flat_map(|spans| spans.list).collect(), exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn key(number: i32) -> Vec<u8> {
        let mut out = Vec::new();
        key::encode(&Value::Int32(number), None, &mut out);
        out
    }

    fn range(begin: i32, end: i32) -> Spans {
        Spans::new(vec![Span { begin: key(begin), end: key(end), point: false }], true)
    }

    fn points(numbers: &[i32]) -> Spans {
        Spans::new(numbers.iter().map(|number| Span::point(key(*number))).collect(), true)
    }

    fn either(left: &Spans, right: &Spans) -> Spans {
        Spans::any(vec![left.clone(), right.clone()])
    }

    #[test]
    fn ranges_are_consolidated() {
        assert_eq!(either(&range(1, 5), &range(5, 9)), range(1, 9));
        assert_eq!(either(&range(1, 7), &range(3, 9)).list().len(), 1);
        assert_eq!(either(&range(1, 3), &range(5, 9)).list().len(), 2);
        assert_eq!(either(&range(1, 5), &points(&[3])), range(1, 5));
        assert!(range(5, 5).is_empty());
    }

    #[test]
    fn points_stay_points() {
        let some = points(&[7, 3, 3, 5]);
        assert_eq!((some.list().len(), some.are_points()), (3, true));
        assert_eq!(some.and(&range(4, 9)), points(&[5, 7]));
        assert_eq!(some.and(&points(&[1, 5])), points(&[5]));
        assert!(!either(&some, &range(4, 6)).are_points());
        assert!(range(1, 5).and(&range(5, 9)).is_empty());
    }

    #[test]
    fn inverted_spans_hold_inverted_keys() {
        let turned = |key: Vec<u8>| -> Vec<u8> { key.iter().map(|byte| !byte).collect() };
        for spans in [range(-3, 5), points(&[-3, 0, 4]), Spans::everything()] {
            let inverted = spans.inverted();
            assert_eq!(inverted.are_points(), spans.are_points());
            for number in -9..9 {
                assert_eq!(
                    inverted.hold(&turned(key(number))),
                    spans.hold(&key(number)),
                    "{number}"
                );
            }
        }
    }

    #[test]
    fn a_kind_holds_its_values_and_no_other() {
        let numbers = Spans::new(vec![Span::kind(Bracket::Number)], true);
        let mut text = Vec::new();
        key::encode(&Value::String(b"x"), None, &mut text);
        assert!(numbers.hold(&key(-3)));
        assert!(!numbers.hold(&text));
        assert!(Spans::everything().hold(&text));
    }
}
