//! The columns of the table: what stands in them and how rows sort by them.

use std::cmp::Ordering;

use super::{figures, picture::FunctionRow};

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    Mode,
    Rate,
    P50,
    P99,
    Errors,
    Queue,
    Busy,
    ReplicaCounts,
    Retries,
}

impl Column {
    /// From left to right.
    pub(super) const ALL: [Column; 10] = [
        Column::Name,
        Column::Mode,
        Column::Rate,
        Column::P50,
        Column::P99,
        Column::Errors,
        Column::Queue,
        Column::Busy,
        Column::ReplicaCounts,
        Column::Retries,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Column::Name => "FUNCTION",
            Column::Mode => "MODE",
            Column::Rate => "RATE/S",
            Column::P50 => "P50",
            Column::P99 => "P99",
            Column::Errors => "ERR/S",
            Column::Queue => "QUEUE",
            Column::Busy => "BUSY",
            Column::ReplicaCounts => "REPL",
            Column::Retries => "RETRY/S",
        }
    }

    pub(super) fn text(self, row: &FunctionRow) -> String {
        match self {
            Column::Name => row.name.clone(),
            Column::Mode => row.mode.clone().unwrap_or_else(|| "-".to_owned()),
            Column::Rate => figures::rate(row.rate),
            Column::P50 => figures::duration(row.p50),
            Column::P99 => figures::duration(row.p99),
            Column::Errors => figures::rate(row.errors),
            Column::Queue => figures::count(row.queue_depth),
            Column::Busy => figures::busy(row.in_flight, row.concurrency),
            Column::ReplicaCounts => figures::replicas(row.replicas),
            Column::Retries => figures::rate(row.retries),
        }
    }

    /// Whether its words sort from a to z at first, instead of the largest number first.
    fn is_text(self) -> bool {
        matches!(self, Column::Name | Column::Mode)
    }

    /// What numbers sort by; what is not known is less than 0.
    fn number(self, row: &FunctionRow) -> f64 {
        let number = match self {
            Column::Name | Column::Mode => None,
            Column::Rate => row.rate,
            Column::P50 => row.p50,
            Column::P99 => row.p99,
            Column::Errors => row.errors,
            Column::Queue => Some(row.queue_depth),
            Column::Busy => Some(row.in_flight),
            Column::ReplicaCounts => row.replicas.map(|replicas| replicas.ready),
            Column::Retries => row.retries,
        };
        number.unwrap_or(-1.0)
    }
}

/// An order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowOrder {
    pub(super) column: Column,
    /// The other way round than the column's own way.
    pub(super) is_reversed: bool,
}

impl Default for RowOrder {
    /// The busiest first.
    fn default() -> RowOrder {
        RowOrder { column: Column::Rate, is_reversed: false }
    }
}

impl RowOrder {
    /// Whether values grow from top to bottom.
    pub(super) fn is_ascending(self) -> bool {
        self.column.is_text() != self.is_reversed
    }

    /// Sorts; rows that are equal stand by name, so that they do not jump about.
    pub(super) fn sort(self, rows: &mut [&FunctionRow]) {
        rows.sort_by(|one, other| {
            let order = match self.column {
                Column::Name => one.name.cmp(&other.name),
                Column::Mode => one.mode.cmp(&other.mode),
                column => column.number(other).total_cmp(&column.number(one)),
            };
            let order = if self.is_reversed { order.reverse() } else { order };
            if order == Ordering::Equal { one.name.cmp(&other.name) } else { order }
        });
    }

    /// By a column that is this many to the right, or to the left.
    pub(super) fn moved(self, columns: isize) -> RowOrder {
        let place = Column::ALL.iter().position(|column| *column == self.column).unwrap_or(0);
        let place = (place as isize + columns).rem_euclid(Column::ALL.len() as isize);
        RowOrder { column: Column::ALL[place as usize], is_reversed: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        let row = |name: &str, mode: &str, rate: Option<f64>, queue_depth: f64| FunctionRow {
            name: name.to_owned(),
            mode: Some(mode.to_owned()),
            rate,
            queue_depth,
            ..FunctionRow::default()
        };
        let rows = [
            row("b", "POOL", Some(1.0), 0.0),
            row("a", "LOCAL", Some(5.0), 0.0),
            row("c", "POOL", None, 3.0),
            row("d", "LOCAL", Some(0.0), 0.0),
        ];
        for (column, is_reversed, expected) in [
            (Column::Rate, false, "abdc"),
            (Column::Rate, true, "cdba"),
            (Column::Name, false, "abcd"),
            (Column::Name, true, "dcba"),
            (Column::Mode, false, "adbc"),
            (Column::Queue, false, "cabd"),
            (Column::P50, false, "abcd"),
        ] {
            let mut sorted: Vec<&FunctionRow> = rows.iter().collect();
            RowOrder { column, is_reversed }.sort(&mut sorted);
            let names: String = sorted.iter().map(|row| row.name.as_str()).collect();
            assert_eq!(names, expected, "{column:?} {is_reversed}");
        }
    }

    #[test]
    fn moving_goes_round() {
        let order = RowOrder { column: Column::Retries, is_reversed: true };
        assert_eq!(order.moved(1), RowOrder { column: Column::Name, is_reversed: false });
        assert_eq!(order.moved(1).moved(-1).column, Column::Retries);
        assert!(!RowOrder::default().is_ascending() && order.is_ascending());
        assert!(order.moved(1).is_ascending());
    }
}
