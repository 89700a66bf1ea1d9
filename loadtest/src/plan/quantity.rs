//! Durations and rates as people write them.

use std::time::Duration;

use jiff::SignedDuration;

use super::Rate;

/// `10s`, `500ms`, `1m 30s`, …
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is no duration (write for example 500ms, 10s, 2m)"))?;
    Duration::try_from(duration).map_err(|_| format!("{text:?} is negative"))
}

/// A rate: `5000`, `70%` or a ramp `1000..5000`.
pub fn rate(text: &str) -> Result<Rate, String> {
    let number = |text: &str| {
        let number = text.trim().parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.0);
        number.ok_or_else(|| format!("{text:?} is no rate (write for example 5000, 70% or 1000..5000)"))
    };
    if let Some((from, to)) = text.split_once("..") {
        return Ok(Rate::Ramp(number(from)?, number(to)?));
    }
    match text.strip_suffix('%') {
        Some(percent) => Ok(Rate::Percent(number(percent)?)),
        None => Ok(Rate::Constant(number(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(rate("5000"), Ok(Rate::Constant(5000.0)));
        assert_eq!(rate("70%"), Ok(Rate::Percent(70.0)));
        assert_eq!(rate("10..20.5"), Ok(Rate::Ramp(10.0, 20.5)));
        for text in ["", "-1", "fast", "1..", "inf", "%"] {
            assert!(rate(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for text in ["", "10", "-1s", "soon"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
