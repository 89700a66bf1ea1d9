//! Durations as people write them, in settings, flags and queries.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a duration, such as 500ms, 2s, 5m, PT2S or 1500 (ms)")]
pub struct DurationError(String);

/// Reads `500ms`, `2s`, `1h30m`, ISO-8601 (`PT2S`) or a bare number of milliseconds.
///
/// # Errors
/// When the text is none of these, or negative.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let wrong = || DurationError(text.to_owned());
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(Duration::from_millis).map_err(|_| wrong());
    }
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_every_notation() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("500ms", Some(ms(500))),
            ("2s", Some(ms(2000))),
            ("5m", Some(ms(300_000))),
            ("1h30m", Some(ms(5_400_000))),
            ("PT2S", Some(ms(2000))),
            ("PT0.5S", Some(ms(500))),
            ("PT1M30S", Some(ms(90_000))),
            ("1500", Some(ms(1500))),
            (" 0 ", Some(ms(0))),
            ("", None),
            ("-2s", None),
            ("-5", None),
            ("soon", None),
            ("2 parsecs", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_duration(text).ok(), expected, "{text:?}");
        }
    }
}
