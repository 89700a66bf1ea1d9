//! A line on stderr that changes while a command works. Only on a terminal: a log or a pipe gets nothing.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use super::{json::shorten, output::columns};

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// See the module. The line is gone when this is dropped.
pub(super) struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// Nothing is shown yet.
    pub(super) fn new() -> Progress {
        Progress { terminal: io::stderr().is_terminal(), shown: false }
    }

    /// Whether anybody sees it.
    pub(super) fn is_visible(&self) -> bool {
        self.terminal
    }

    /// Shows a text instead of the one before, cut to the terminal's width.
    pub(super) fn show(&mut self, text: &str) {
        if self.terminal {
            // A full line would wrap, and the next one would start below it.
            let columns = columns(&io::stderr()).unwrap_or(COLUMNS).saturating_sub(1);
            self.shown = true;
            self.write(&format!("\r\u{1b}[2K{}", shorten(text, columns)));
        }
    }

    /// Takes the line away, for something that stays to be printed.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.write("\r\u{1b}[2K");
        }
    }

    fn write(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // Nobody is left to be told.
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A time that passes, as people say it: `3.2 s`, `2 m 05 s`, `1 h 02 m`, `3 d 04 h`.
pub(super) fn span(time: Duration) -> String {
    match time.as_secs() {
        ..60 => format!("{:.1} s", time.as_secs_f64().min(59.9)),
        seconds @ 60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        seconds @ 3600..86_400 => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (ms, expected) in [
            (0, "0.0 s"),
            (3_249, "3.2 s"),
            (59_999, "59.9 s"),
            (125_000, "2 m 05 s"),
            (3_720_000, "1 h 02 m"),
            (273_600_000, "3 d 04 h"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), expected);
        }
    }
}
