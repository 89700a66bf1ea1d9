//! Durations, sizes and whole numbers: text to value and back.

use std::time::Duration;

use super::value::{Unit, ValueError};

/// A duration as the core counts it. One of more than 290 000 years stays below its overflow.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2)
}

/// Reads a size: `1048576`, `1MiB`, `16KiB`, `2GB`.
///
/// # Errors
/// When the text is not a whole number with a known unit, or too large.
pub fn parse_bytes(text: &str) -> Result<u64, ValueError> {
    let expected = || ValueError::expected(text, "a size, such as 1048576, 16KiB or 1MiB");
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'_').count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        _ => return Err(expected()),
    };
    let number: u64 = number.replace('_', "").parse().map_err(|_| expected())?;
    number.checked_mul(factor).ok_or_else(expected)
}

/// Reads a whole number; `_` may separate digits.
pub(super) fn parse_whole(text: &str) -> Result<u64, ValueError> {
    text.replace('_', "").parse().map_err(|_| ValueError::expected(text, "a whole number"))
}

/// The largest unit that divides the size.
pub(super) fn show_bytes(bytes: u128) -> String {
    let units = [(1u128 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(factor, _)| bytes > 0 && bytes.is_multiple_of(*factor)) {
        Some((factor, unit)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// The largest unit that divides the duration; a bare number where the key already names milliseconds.
pub(super) fn show_duration(duration: Duration, unit: Unit) -> String {
    let ms = duration.as_millis();
    match ms {
        _ if unit == Unit::Millis => ms.to_string(),
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use nanofaas_base::duration::parse_duration;

    use super::*;

    #[test]
    fn a_shown_duration_is_read_again() {
        for text in ["500ms", "2s", "5m", "24h", "90s", "0s"] {
            let duration = parse_duration(text).expect("a duration");
            assert_eq!(show_duration(duration, Unit::None), text);
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1048576", Some(1 << 20)),
            ("1MiB", Some(1 << 20)),
            ("16KiB", Some(16 << 10)),
            ("16 kib", Some(16 << 10)),
            ("2GB", Some(2_000_000_000)),
            ("1_000", Some(1000)),
            ("0", Some(0)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("1.5MiB", None),
            ("1 elephant", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), expected, "{text:?}");
        }
        for text in ["1MiB", "16KiB", "3GiB", "1000", "0"] {
            assert_eq!(show_bytes(parse_bytes(text).expect("a size").into()), text);
        }
    }
}
