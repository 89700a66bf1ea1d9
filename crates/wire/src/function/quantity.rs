//! Kubernetes quantities: `250m`, `1.5`, `128Mi`, `1e3`.
//!
//! A quantity is a decimal number and one suffix, binary (`Ki` … `Ei`), decimal (`n` … `E`) or an exponent
//! (`e3`, `E-3`). It is held in billionths, the finest step that Kubernetes knows; finer values are rounded up,
//! as there. Negative values are refused: no container can have less than nothing.

/// Billionths in one.
const NANOS_PER_UNIT: u128 = 1_000_000_000;

/// Largest power of ten that an exponent may name, in either direction.
const EXPONENT_MAX: u32 = 18;

/// An amount of CPU (in cores) or memory (in bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: u128,
}

impl Quantity {
    /// Reads `text`. `None` when it is not a quantity, negative, or too large to be meant.
    pub fn parse(text: &str) -> Option<Quantity> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let number_length = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, suffix) = text.split_at(number_length);
        let (mantissa, decimals) = mantissa(number)?;
        let (multiplier, divisor) = scale(suffix)?;
        let divisor = 10u128.checked_pow(decimals)?.checked_mul(divisor)?;
        let nanos = mantissa.checked_mul(multiplier)?.checked_mul(NANOS_PER_UNIT)?.div_ceil(divisor);
        // Kubernetes counts in 64 bits.
        (nanos / NANOS_PER_UNIT <= i64::MAX as u128).then_some(Quantity { nanos })
    }

    /// Whole units (bytes of memory), rounded up.
    pub fn units(self) -> u64 {
        u64::try_from(self.nanos.div_ceil(NANOS_PER_UNIT)).unwrap_or(u64::MAX)
    }

    /// Billionths (the Docker API's `NanoCpus`).
    pub fn nanos(self) -> u128 {
        self.nanos
    }
}

/// `12.50` → (1250, 2).
fn mantissa(number: &str) -> Option<(u128, u32)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    if number.trim_matches('.').is_empty() || fraction.contains('.') {
        return None;
    }
    let mut value = 0u128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(u128::from(digit - b'0'))?;
    }
    Some((value, u32::try_from(fraction.len()).ok()?))
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let scale = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => return exponent(suffix.strip_prefix(['e', 'E'])?),
    };
    Some(scale)
}

fn exponent(text: &str) -> Option<(u128, u128)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let power: u32 = digits.parse().ok().filter(|power| *power <= EXPONENT_MAX)?;
    let power = 10u128.pow(power);
    Some(if negative { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_the_value_kubernetes_gives_them() {
        for (text, nanos) in [
            ("0", 0),
            ("1", 1_000_000_000),
            ("+2", 2_000_000_000),
            ("250m", 250_000_000),
            ("0.5", 500_000_000),
            (".5", 500_000_000),
            ("5.", 5_000_000_000),
            ("1.50", 1_500_000_000),
            ("7u", 7_000),
            ("7n", 7),
            ("0.1n", 1),
            ("128Mi", (128 << 20) * NANOS_PER_UNIT),
            ("1.5Gi", (3 << 29) * NANOS_PER_UNIT),
            ("1k", 1_000 * NANOS_PER_UNIT),
            ("1e3", 1_000 * NANOS_PER_UNIT),
            ("1E+3", 1_000 * NANOS_PER_UNIT),
            ("1E", 1_000_000_000_000_000_000 * NANOS_PER_UNIT),
            ("12E-3", 12_000_000),
            ("7Ei", (7 << 60) * NANOS_PER_UNIT),
        ] {
            assert_eq!(Quantity::parse(text).map(Quantity::nanos), Some(nanos), "{text}");
        }
        assert_eq!(Quantity::parse("1500m").map(Quantity::units), Some(2));
    }

    #[test]
    fn anything_else_is_refused() {
        let long = "9".repeat(60);
        for text in [
            "",
            ".",
            "-1",
            "-0",
            "++1",
            "1.2.3",
            "1..2",
            "m",
            "Mi",
            "lots",
            "1 Mi",
            " 1",
            "1mi",
            "1KI",
            "1K",
            "1MiB",
            "1e",
            "1e+",
            "1e-",
            "1e++3",
            "1e1.5",
            "1e19",
            "1e99999999999",
            "8Ei",
            "0x10",
            "1_000",
            "١",
            &long,
        ] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
        assert_eq!(Quantity::parse(&format!("0.{}1", "0".repeat(60))), None);
    }
}
