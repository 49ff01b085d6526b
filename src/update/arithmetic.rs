//! `$inc` and `$mul`: the sum or product has the wider type of the two, and an
//! int32 that overflows becomes an int64.

use std::str::FromStr;

use bigdecimal::num_bigint::Sign;
use bigdecimal::{BigDecimal, RoundingMode};
use bson::Decimal128;

use super::operand::Operand;
use crate::value::Value;

/// Digits of a decimal128.
const DIGITS: u64 = 34;

/// What is calculated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calculation {
    Add,
    Multiply,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The value there is no number.
    NotANumber,
    /// Neither an int64 nor a decimal128 holds the result.
    Overflow(&'static str),
}

/// A number by the width of its type.
#[derive(Clone, Copy, Debug)]
enum Number {
    Int32(i32),
    Int64(i64),
    Double(f64),
    Decimal(Decimal128),
}

impl Number {
    fn of(value: &Value<'_>) -> Option<Self> {
        Some(match *value {
            Value::Int32(number) => Self::Int32(number),
            Value::Int64(number) => Self::Int64(number),
            Value::Double(number) => Self::Double(number),
            Value::Decimal128(number) => Self::Decimal(number),
            _ => return None,
        })
    }

    fn integer(self) -> Option<i64> {
        match self {
            Self::Int32(number) => Some(i64::from(number)),
            Self::Int64(number) => Some(number),
            Self::Double(_) | Self::Decimal(_) => None,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "the type of the result is double")]
    fn double(self) -> Option<f64> {
        match self {
            Self::Int32(number) => Some(f64::from(number)),
            Self::Int64(number) => Some(number as f64),
            Self::Double(number) => Some(number),
            Self::Decimal(_) => None,
        }
    }

    /// As text that a decimal reads. A double has fifteen digits there, so that 0.1 is 0.1.
    fn decimal(self) -> String {
        match self {
            Self::Int32(number) => number.to_string(),
            Self::Int64(number) => number.to_string(),
            Self::Double(number) if number.is_nan() => "NaN".to_owned(),
            Self::Double(number) if number.is_infinite() => {
                if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
            }
            Self::Double(number) => format!("{number:.14e}"),
            Self::Decimal(number) => number.to_string(),
        }
    }
}

/// Whether a value is a number.
pub(super) fn is_number(value: &Value<'_>) -> bool {
    Number::of(value).is_some()
}

/// Nought in the type of a number: what multiplying a missing field gives.
pub(super) fn nought(value: &Value<'_>) -> Operand {
    Operand::copy(&match Number::of(value) {
        Some(Number::Int64(_)) => Value::Int64(0),
        Some(Number::Double(_)) => Value::Double(0.0),
        Some(Number::Decimal(_)) => Value::Decimal128("0".parse().unwrap_or_else(|_| zero())),
        Some(Number::Int32(_)) | None => Value::Int32(0),
    })
}

/// All bytes nought but those of the exponent, whose bias is 6176.
fn zero() -> Decimal128 {
    Decimal128::from_bytes((6176_u128 << 113).to_le_bytes())
}

/// The result for what is there and the operand, which is a number.
pub(super) fn calculate(
    calculation: Calculation,
    there: &Value<'_>,
    operand: &Value<'_>,
) -> Result<Operand, Failure> {
    let left = Number::of(there).ok_or(Failure::NotANumber)?;
    let right = Number::of(operand).ok_or(Failure::NotANumber)?;
    if let Some((left_integer, right_integer)) = left.integer().zip(right.integer()) {
        let result = match calculation {
            Calculation::Add => left_integer.checked_add(right_integer),
            Calculation::Multiply => left_integer.checked_mul(right_integer),
        };
        let result = result.ok_or(Failure::Overflow("int64"))?;
        let narrow = matches!((left, right), (Number::Int32(_), Number::Int32(_)));
        return Ok(Operand::copy(&match i32::try_from(result) {
            Ok(result) if narrow => Value::Int32(result),
            _ => Value::Int64(result),
        }));
    }
    if let Some((left, right)) = left.double().zip(right.double()) {
        return Ok(Operand::copy(&Value::Double(match calculation {
            Calculation::Add => left + right,
            Calculation::Multiply => left * right,
        })));
    }
    let result = decimal(calculation, &left.decimal(), &right.decimal())?;
    Ok(Operand::copy(&Value::Decimal128(result)))
}

fn decimal(calculation: Calculation, left: &str, right: &str) -> Result<Decimal128, Failure> {
    let overflow = |_| Failure::Overflow("decimal128");
    let parsed = BigDecimal::from_str(left).ok().zip(BigDecimal::from_str(right).ok());
    let Some((left, right)) = parsed else {
        return unusual(calculation, left, right).parse().map_err(overflow);
    };
    let result = match calculation {
        Calculation::Add => left + right,
        Calculation::Multiply => left * right,
    };
    let result = if result.digits() > DIGITS {
        result.with_precision_round(
            std::num::NonZeroU64::new(DIGITS).unwrap_or(std::num::NonZeroU64::MIN),
            RoundingMode::HalfEven,
        )
    } else {
        result
    };
    let (digits, scale) = result.as_bigint_and_exponent();
    let text = format!("{digits}E{}", scale.saturating_neg());
    text.parse::<Decimal128>().map_err(overflow)
}

/// With NaN or an infinity among them the doubles of the same kind tell the result.
fn unusual(calculation: Calculation, left: &str, right: &str) -> &'static str {
    let kind = |text: &str| match text {
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => BigDecimal::from_str(text).map_or(f64::NAN, |number| match number.sign() {
            Sign::Plus => 1.0,
            Sign::NoSign => 0.0,
            Sign::Minus => -1.0,
        }),
    };
    let result = match calculation {
        Calculation::Add => kind(left) + kind(right),
        Calculation::Multiply => kind(left) * kind(right),
    };
    if result.is_nan() {
        "NaN"
    } else if result > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}
