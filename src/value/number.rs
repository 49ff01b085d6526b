//! Exact order of int32, int64, double and decimal128 among each other.
//!
//! No number is converted to another's type: both sides are taken as
//! `coefficient * 2^a * 10^b` and compared exactly, with a cheap estimate that
//! decides nearly always. NaN equals NaN and is below every other number.

use std::cmp::Ordering;

use bson::Decimal128;

use super::raw::Value;

/// A BSON number.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    Integer(i64),
    Double(f64),
    Decimal(Decimal128),
}

impl Number {
    /// The number in a value, if it is one.
    pub fn of(value: &Value<'_>) -> Option<Self> {
        match *value {
            Value::Int32(number) => Some(Self::Integer(i64::from(number))),
            Value::Int64(number) => Some(Self::Integer(number)),
            Value::Double(number) => Some(Self::Double(number)),
            Value::Decimal128(number) => Some(Self::Decimal(number)),
            _ => None,
        }
    }

    /// Whether it is a NaN, which `$gt` and its like never match.
    pub fn is_nan(self) -> bool {
        match self {
            Self::Integer(_) => false,
            Self::Double(number) => number.is_nan(),
            Self::Decimal(_) => matches!(self.exact(), Exact::Nan),
        }
    }

    /// The total order.
    pub fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => left.cmp(&right),
            (Self::Double(left), Self::Double(right)) => {
                left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
            }
            (Self::Integer(left), Self::Double(right)) => integer_with_double(left, right),
            (Self::Double(left), Self::Integer(right)) => {
                integer_with_double(right, left).reverse()
            }
            _ => compare(self.exact(), other.exact()),
        }
    }

    pub(super) fn exact(self) -> Exact {
        match self {
            Self::Integer(number) => Exact::Finite {
                negative: number < 0,
                coefficient: u128::from(number.unsigned_abs()),
                two: 0,
                ten: 0,
            },
            Self::Double(number) => exact_double(number),
            Self::Decimal(number) => exact_decimal(number),
        }
    }
}

/// The common pair, without the detour over [`Exact`].
#[allow(
    clippy::cast_possible_truncation,
    reason = "within the range of int64, where the whole part fits"
)]
fn integer_with_double(integer: i64, double: f64) -> Ordering {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if double >= TWO_TO_63 {
        return Ordering::Less;
    }
    if double.is_nan() || double < -TWO_TO_63 {
        return Ordering::Greater;
    }
    let order = integer.cmp(&(double as i64));
    order.then_with(|| 0.0_f64.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal))
}

/// What a number is, without its type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exact {
    Nan,
    Infinity { negative: bool },
    Finite { negative: bool, coefficient: u128, two: i32, ten: i32 },
}

fn exact_double(number: f64) -> Exact {
    let bits = number.to_bits();
    let negative = bits >> 63 == 1;
    let fraction = u128::from(bits & ((1 << 52) - 1));
    let exponent = i32::try_from((bits >> 52) & 0x7ff).unwrap_or_default();
    match exponent {
        0x7ff if fraction == 0 => Exact::Infinity { negative },
        0x7ff => Exact::Nan,
        0 => Exact::Finite { negative, coefficient: fraction, two: -1074, ten: 0 },
        _ => {
            let coefficient = fraction | (1 << 52);
            Exact::Finite { negative, coefficient, two: exponent - 1075, ten: 0 }
        }
    }
}

/// IEEE 754-2008 decimal128 in its binary integer form.
fn exact_decimal(number: Decimal128) -> Exact {
    const COEFFICIENT_MAX: u128 = 9_999_999_999_999_999_999_999_999_999_999_999;
    let bits = u128::from_le_bytes(number.bytes());
    let negative = bits >> 127 == 1;
    let exponent = |shift: u32| i32::try_from((bits >> shift) & 0x3fff).unwrap_or_default() - 6176;
    if (bits >> 122) & 0x1f == 0x1f {
        return Exact::Nan;
    }
    if (bits >> 122) & 0x1f == 0x1e {
        return Exact::Infinity { negative };
    }
    // The second form only has coefficients above the maximum; those, by the standard, are zero.
    if (bits >> 125) & 3 == 3 {
        return Exact::Finite { negative, coefficient: 0, two: 0, ten: exponent(111) };
    }
    let coefficient = bits & ((1 << 113) - 1);
    let coefficient = if coefficient > COEFFICIENT_MAX { 0 } else { coefficient };
    Exact::Finite { negative, coefficient, two: 0, ten: exponent(113) }
}

fn compare(left: Exact, right: Exact) -> Ordering {
    fn rank(number: Exact) -> i8 {
        match number {
            Exact::Nan => -4,
            Exact::Infinity { negative: true } => -2,
            Exact::Infinity { negative: false } => 2,
            Exact::Finite { coefficient: 0, .. } => 0,
            Exact::Finite { negative: true, .. } => -1,
            Exact::Finite { negative: false, .. } => 1,
        }
    }
    let (low, high) = (rank(left), rank(right));
    match (left, right) {
        (
            Exact::Finite { coefficient: left, two: left_two, ten: left_ten, .. },
            Exact::Finite { coefficient: right, two: right_two, ten: right_ten, .. },
        ) if low == high && low != 0 => {
            let order = magnitude((left, left_two, left_ten), (right, right_two, right_ten));
            if low < 0 { order.reverse() } else { order }
        }
        _ => low.cmp(&high),
    }
}

/// Compares two positive `coefficient * 2^two * 10^ten`.
#[allow(clippy::cast_precision_loss, reason = "only an estimate with a wide margin")]
fn magnitude(left: (u128, i32, i32), right: (u128, i32, i32)) -> Ordering {
    let log = |(coefficient, two, ten): (u128, i32, i32)| {
        (coefficient as f64).log10() + f64::from(two) * std::f64::consts::LOG10_2 + f64::from(ten)
    };
    let (left_log, right_log) = (log(left), log(right));
    if (left_log - right_log).abs() > 1e-6 {
        return left_log.total_cmp(&right_log);
    }
    let mut left_big = Big::from(left.0);
    let mut right_big = Big::from(right.0);
    let (two, ten) = (left.1 - right.1, left.2 - right.2);
    if two > 0 { &mut left_big } else { &mut right_big }.scale(2, two.unsigned_abs());
    if ten > 0 { &mut left_big } else { &mut right_big }.scale(10, ten.unsigned_abs());
    left_big.cmp(&right_big)
}

/// Limbs of 32 bits that are enough: numbers of about the same size are scaled
/// by at most 10^400 * 2^1100 before they are compared.
const LIMBS: usize = 96;

/// An unsigned integer, lowest limb first. On the stack, so that comparing does not allocate.
pub(super) struct Big {
    limbs: [u32; LIMBS],
    /// How many of them are used; the last of these is not zero.
    used: usize,
}

impl From<u128> for Big {
    fn from(mut number: u128) -> Self {
        let mut big = Self { limbs: [0; LIMBS], used: 0 };
        while number > 0 {
            big.push(u32::try_from(number & 0xffff_ffff).unwrap_or_default());
            number >>= 32;
        }
        big
    }
}

impl Big {
    fn push(&mut self, limb: u32) {
        debug_assert!(self.used < LIMBS, "LIMBS are enough for every pair of numbers");
        if let Some(place) = self.limbs.get_mut(self.used) {
            *place = limb;
            self.used += 1;
        }
    }

    pub(super) fn scale(&mut self, base: u64, times: u32) {
        // 10^9 and 2^29 fit a limb.
        let (step, power) = if base == 10 { (9, 1_000_000_000) } else { (29, 1 << 29) };
        for _ in 0..times / step {
            self.multiply(power);
        }
        self.multiply(base.pow(times % step));
    }

    fn multiply(&mut self, factor: u64) {
        let mut carry = 0_u64;
        for limb in self.limbs.iter_mut().take(self.used) {
            let product = u64::from(*limb) * factor + carry;
            *limb = u32::try_from(product & 0xffff_ffff).unwrap_or_default();
            carry = product >> 32;
        }
        if carry > 0 {
            self.push(u32::try_from(carry).unwrap_or_default());
        }
    }

    /// Divides by `10^times`; gives whether anything was left over.
    pub(super) fn divide_by_ten(&mut self, times: u32) -> bool {
        let mut rest = false;
        for _ in 0..times / 9 {
            rest |= self.divide(1_000_000_000);
        }
        rest | self.divide(10_u64.pow(times % 9))
    }

    fn divide(&mut self, divisor: u64) -> bool {
        let mut rest = 0_u64;
        for limb in self.limbs.iter_mut().take(self.used).rev() {
            let part = rest << 32 | u64::from(*limb);
            *limb = u32::try_from(part / divisor).unwrap_or_default();
            rest = part % divisor;
        }
        while self.used > 0 && self.limbs.get(self.used - 1) == Some(&0) {
            self.used -= 1;
        }
        rest > 0
    }

    /// How many bits it has, the highest 64 of them, and whether one of the
    /// others is set.
    pub(super) fn highest(&self) -> (u32, u64, bool) {
        let mut limbs = self.limbs.iter().take(self.used).rev();
        let mut top = 0_u128;
        for _ in 0..3 {
            top = top << 32 | u128::from(limbs.next().copied().unwrap_or_default());
        }
        // Three limbs of which the first is not zero: 65 to 96 bits, the upper 64 wanted.
        let spare = 96 - (128 - top.leading_zeros());
        let below = 32 - spare;
        let high = u64::try_from(top >> below).unwrap_or_default();
        let rest = top & ((1 << below) - 1) != 0 || limbs.any(|limb| *limb != 0);
        (u32::try_from(self.used).unwrap_or_default() * 32 - spare, high, rest)
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.used.cmp(&other.used).then_with(|| {
            let digits = self.limbs.iter().take(self.used).rev();
            digits.cmp(other.limbs.iter().take(other.used).rev())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Number {
        Number::Decimal(text.parse().unwrap())
    }

    #[track_caller]
    fn check(left: Number, right: Number, expected: Ordering) {
        assert_eq!(left.compare(right), expected, "{left:?} {right:?}");
        assert_eq!(right.compare(left), expected.reverse(), "{right:?} {left:?}");
    }

    #[test]
    fn integers_and_doubles_compare_beyond_53_bits() {
        check(
            Number::Integer((1 << 53) + 1),
            Number::Double(9_007_199_254_740_992.0),
            Ordering::Greater,
        );
        check(
            Number::Integer(i64::MAX),
            Number::Double(9_223_372_036_854_775_808.0),
            Ordering::Less,
        );
        check(
            Number::Integer(i64::MIN),
            Number::Double(-9_223_372_036_854_775_808.0),
            Ordering::Equal,
        );
        check(Number::Integer(0), Number::Double(-0.0), Ordering::Equal);
        check(Number::Integer(3), Number::Double(2.5), Ordering::Greater);
        check(Number::Integer(-3), Number::Double(-2.5), Ordering::Less);
    }

    #[test]
    fn a_decimal_equals_a_double_only_when_both_are_the_same_number() {
        check(decimal("0.5"), Number::Double(0.5), Ordering::Equal);
        check(decimal("0.1"), Number::Double(0.1), Ordering::Less);
        check(decimal("1E+6111"), Number::Double(f64::MAX), Ordering::Greater);
        check(decimal("1E-6176"), Number::Double(f64::MIN_POSITIVE), Ordering::Less);
        check(
            decimal("4.940656458412465441765687928682214E-324"),
            Number::Double(5e-324),
            Ordering::Greater,
        );
        check(
            decimal("1.797693134862315708145274237317044E+308"),
            Number::Double(f64::MAX),
            Ordering::Greater,
        );
        check(decimal("42.00"), Number::Integer(42), Ordering::Equal);
        check(decimal("4.2E+1"), decimal("42.000"), Ordering::Equal);
        check(decimal("-0"), Number::Integer(0), Ordering::Equal);
        check(decimal("9223372036854775807.5"), Number::Integer(i64::MAX), Ordering::Greater);
    }

    #[test]
    fn nan_is_equal_to_nan_and_below_minus_infinity() {
        check(decimal("NaN"), Number::Double(f64::NAN), Ordering::Equal);
        check(Number::Double(f64::NAN), Number::Double(f64::NAN), Ordering::Equal);
        check(Number::Double(f64::NAN), Number::Double(f64::NEG_INFINITY), Ordering::Less);
        check(decimal("-Infinity"), Number::Double(f64::NEG_INFINITY), Ordering::Equal);
        check(decimal("Infinity"), Number::Integer(i64::MAX), Ordering::Greater);
    }
}
