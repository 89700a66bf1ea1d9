//! Equality of JSON values as people mean it: 1 and 1.0 are one number, the order of members is nothing.

use serde_json::{Number, Value};

/// Whether two values are the same.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => equal_numbers(left, right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| equal(value, other)))
        }
        _ => left == right,
    }
}

/// Whole numbers compare exactly; with a fraction on one side both are floating point.
fn equal_numbers(left: &Number, right: &Number) -> bool {
    let whole = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left.as_f64() == right.as_f64(),
    }
}

/// The text of a value, cut to a length that fits into a table.
pub(super) fn shorten(text: &str, chars_max: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if flat.chars().count() <= chars_max {
        return flat;
    }
    let mut short: String = flat.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality() {
        for (left, right, same) in [
            ("1", "1.0", true),
            ("-0.0", "0", true),
            ("1e2", "100", true),
            ("18446744073709551615", "18446744073709551614", false),
            ("9007199254740993", "9007199254740992", false),
            ("1", "\"1\"", false),
            ("[1,2]", "[1.0,2]", true),
            ("[1,2]", "[2,1]", false),
            ("{\"a\":1,\"b\":null}", "{\"b\":null,\"a\":1.0}", true),
            ("{\"a\":1}", "{\"a\":1,\"b\":null}", false),
            ("null", "false", false),
        ] {
            let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
            assert_eq!(equal(&parse(left), &parse(right)), same, "{left} {right}");
        }
    }

    #[test]
    fn shortening_counts_characters() {
        assert_eq!(shorten("größer", 6), "größer");
        assert_eq!(shorten("größer als", 6), "größe…");
        assert_eq!(shorten("a\nb", 6), "a b");
    }
}
