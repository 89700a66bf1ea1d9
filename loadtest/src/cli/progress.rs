//! A line on the terminal that says how far the run is.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use crate::{record::Row, report::table};

/// The line; nothing at all when stderr is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    is_shown: bool,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { is_shown: io::stderr().is_terminal() }
    }

    /// Shows the latest second.
    pub(super) fn show(&self, row: &Row, length: Duration) {
        if !self.is_shown {
            return;
        }
        let failed = if row.failed > 0 { format!(", {} failed", row.failed) } else { String::new() };
        // Without a terminal any more there is nobody to look at it.
        let _ = write!(
            io::stderr(),
            "\r\x1b[K{} of {:.0} s: {}/s, p50 {}, p99 {}, max {}{failed}",
            row.second + 1,
            length.as_secs_f64(),
            table::number(row.succeeded as f64),
            table::time(row.p50_ms),
            table::time(row.p99_ms),
            table::time(row.max_ms),
        );
    }

    /// Shows this.
    pub(super) fn say(&self, text: &str) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
