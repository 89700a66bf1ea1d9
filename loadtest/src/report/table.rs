//! Tables of text: columns as wide as they have to be, numbers to the right.

use std::fmt;

/// A table that grows row by row.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these titles.
    pub fn new<T: Into<String>>(titles: impl IntoIterator<Item = T>) -> Table {
        Table { rows: vec![titles.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Titles first.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    line.push_str(&format!("{cell:<width$}"));
                } else {
                    line.push_str(&format!("  {cell:>width$}"));
                }
            }
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A count or rate, with thousands apart.
pub fn number(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A time in milliseconds, with a unit that suits it and three digits.
pub fn time(ms: f64) -> String {
    let digits = |value: f64| match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    };
    match ms {
        ms if ms <= 0.0 => "0".to_owned(),
        ms if ms < 0.9995 => format!("{:.0} µs", ms * 1000.0),
        ms if ms < 9999.5 => format!("{} ms", digits(ms)),
        ms => format!("{} s", digits(ms / 1000.0)),
    }
}

/// A share, in percent.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        value if value.abs() < 0.1 => format!("{value:.3} %"),
        value => format!("{value:.1} %"),
    }
}

/// A size.
pub fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 => format!("{bytes:.0} B"),
        bytes if bytes < 1024.0 * 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes => format!("{:.1} MiB", bytes / 1024.0 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["", "p50"]);
        table.row(["echo", "1 ms"]);
        table.row(["a", "900 µs"]);
        assert_eq!(table.to_string(), "         p50\necho    1 ms\na     900 µs\n");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 7.25, 1234.0, 1_234_567.0].map(number), ["0", "7.2", "1 234", "1 234 567"]);
        assert_eq!(
            [0.0, 0.0384, 1.2345, 50.0, 999.9, 12_000.0].map(time),
            ["0", "38 µs", "1.23 ms", "50.0 ms", "1000 ms", "12.0 s"]
        );
        assert_eq!([0.0, 0.0001, 0.5].map(percent), ["0 %", "0.010 %", "50.0 %"]);
    }
}
