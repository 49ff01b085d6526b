use crate::value::number::{Big, Exact, Number};

pub(super) const LOWEST: u8 = NAN;
pub(super) const HIGHEST: u8 = INFINITY;

const NAN: u8 = 0x10;
const MINUS_INFINITY: u8 = 0x11;
const ZERO: u8 = 0x15;
const INFINITY: u8 = 0x19;
/// Positive ones; the negative ones stand as far below zero.
const TINY: u8 = 0x16;
const NORMAL: u8 = 0x17;
const HUGE: u8 = 0x18;

/// Digits that every decimal is stretched to.
const DIGITS: u32 = 34;
/// Decimals of this decade and above are greater than every double and integer.
const HUGE_DECADE: i32 = 309;
/// Decimals below this decade are less than every positive double.
const TINY_DECADE: i32 = -324;

/// Appends the key of a number: exact, whatever its type.
///
/// Integers and doubles have at most 64 significant bits, so exponent and bits
/// are all of them. A decimal that is not of that form lies between two that
/// are: it has the bits of the lower one, and then its own 34 digits, which
/// order it among the decimals that lie there too.
pub(super) fn encode(number: Number, out: &mut Vec<u8>) {
    match number.exact() {
        Exact::Nan => out.push(NAN),
        Exact::Infinity { negative: true } => out.push(MINUS_INFINITY),
        Exact::Infinity { negative: false } => out.push(INFINITY),
        Exact::Finite { coefficient: 0, .. } => out.push(ZERO),
        Exact::Finite { negative, coefficient, two, ten } => {
            let start = out.len();
            let is_decimal = matches!(number, Number::Decimal(_));
            let rank = if is_decimal {
                decimal(coefficient, ten, out)
            } else {
                let bits = 128 - coefficient.leading_zeros();
                let high = u64::try_from(coefficient).unwrap_or(u64::MAX) << (64 - bits.min(64));
                binary(two + i32::try_from(bits).unwrap_or_default(), high, out);
                out.push(0);
                NORMAL
            };
            if negative {
                for byte in out.iter_mut().skip(start) {
                    *byte = !*byte;
                }
            }
            out.insert(start, if negative { 2 * ZERO - rank } else { rank });
        }
    }
}

/// A number in `2^(exponent-1) .. 2^exponent`, as far as its upper 64 bits go.
fn binary(exponent: i32, high: u64, out: &mut Vec<u8>) {
    biased(exponent, out);
    out.extend_from_slice(&high.to_be_bytes());
}

/// A small number in an order of its bytes.
fn biased(number: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(number + 0x4000).unwrap_or_default().to_be_bytes());
}

/// Appends what stands behind the rank, and gives the rank.
fn decimal(coefficient: u128, ten: i32, out: &mut Vec<u8>) -> u8 {
    let missing = DIGITS - 1 - coefficient.ilog10();
    let digits = coefficient * 10_u128.pow(missing);
    let shift = ten - i32::try_from(missing).unwrap_or_default();
    let decade = shift + i32::try_from(DIGITS - 1).unwrap_or_default();
    let decimally = |out: &mut Vec<u8>| {
        biased(decade, out);
        out.extend_from_slice(&digits.to_be_bytes());
    };
    if !(TINY_DECADE..HUGE_DECADE).contains(&decade) {
        decimally(out);
        return if decade > 0 { HUGE } else { TINY };
    }
    // From here on the power of ten is at most some 360, which a `Big` holds.
    let mut big = Big::from(coefficient);
    let mut two = 0;
    let mut between = false;
    if ten >= 0 {
        big.scale(10, ten.unsigned_abs());
    } else {
        // Enough bits are put below that 64 are left above after the division.
        let bits = ten.unsigned_abs() * 10 / 3 + 70;
        big.scale(2, bits);
        between = big.divide_by_ten(ten.unsigned_abs());
        two = -i32::try_from(bits).unwrap_or_default();
    }
    let (bits, high, rest) = big.highest();
    binary(two + i32::try_from(bits).unwrap_or_default(), high, out);
    between |= rest;
    out.push(u8::from(between));
    if between {
        decimally(out);
    }
    NORMAL
}
