//! What commands print: aligned tables for people, the server's JSON for programs.
//!
//! Every write returns its error, so a closed pipe ends the command instead of a panic. Colour only on a
//! terminal and without `NO_COLOR`.

use std::{
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
};

use nanofaas_base::environment;
use serde_json::{Map, Value};

use super::json::shorten;

/// Least width of a column that is cut to fit.
const CUT_MIN: usize = 8;

/// Format of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Where a command prints.
pub struct Output {
    format: OutputFormat,
    colour: bool,
    /// Columns of the terminal, if it is one.
    columns: Option<usize>,
}

/// How a cell looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellStyle {
    /// As other text.
    Plain,
    /// As it should be.
    Good,
    /// As it should not be.
    Bad,
    /// Beside the point.
    Faint,
}

/// One field of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    look: CellStyle,
}

impl Cell {
    /// A text and how it looks.
    pub fn new(text: impl Into<String>, look: CellStyle) -> Cell {
        Cell { text: text.into(), look }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text, CellStyle::Plain)
    }
}

/// Rows under a heading.
#[derive(Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<Cell>>,
    is_cut: bool,
}

impl Table {
    /// A table without rows.
    pub fn new<T: ToString>(head: &[T]) -> Table {
        Table { head: head.iter().map(T::to_string).collect(), rows: Vec::new(), is_cut: false }
    }

    /// Cuts the last column where the terminal ends. For texts of which the beginning will do.
    pub(super) fn cut(mut self) -> Table {
        self.is_cut = true;
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The lines, every column as wide as its widest cell.
    fn render(&self, colour: bool, columns: Option<usize>) -> String {
        let head: Vec<Cell> = self.head.iter().map(|name| Cell::new(name, CellStyle::Faint)).collect();
        let lines: Vec<&Vec<Cell>> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |column: usize| {
            lines.iter().filter_map(|cells| cells.get(column)).map(|cell| cell.text.chars().count()).max()
        };
        let widths: Vec<usize> = (0..self.head.len()).map(|column| width(column).unwrap_or(0)).collect();
        // Where every character counts, one blank between columns has to do.
        let needed = widths.iter().map(|width| width + 2).sum::<usize>().saturating_sub(2);
        let gap = if columns.is_some_and(|columns| columns < needed) { 1 } else { 2 };
        let before: usize = widths.iter().rev().skip(1).map(|width| width + gap).sum();
        let room = columns.filter(|_| self.is_cut).map(|columns| columns.saturating_sub(before).max(CUT_MIN));
        let mut text = String::new();
        for cells in lines {
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                match room {
                    Some(room) if column + 1 == widths.len() => {
                        text.push_str(&paint(&shorten(&cell.text, room), cell.look, colour));
                    }
                    _ => text.push_str(&paint(&cell.text, cell.look, colour)),
                }
                if column + 1 < cells.len() {
                    let padding = width - cell.text.chars().count() + gap;
                    text.extend(std::iter::repeat_n(' ', padding));
                }
            }
            text.push('\n');
        }
        text
    }
}

impl Output {
    /// Standard output.
    pub fn stdout(format: OutputFormat) -> Output {
        let wanted = environment::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let columns = columns(&io::stdout());
        Output { format, colour: wanted && io::stdout().is_terminal(), columns }
    }

    /// Whether colours are wanted and seen.
    pub(super) fn is_coloured(&self) -> bool {
        self.colour
    }

    /// Whether programs read it.
    pub fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Prints one line.
    ///
    /// # Errors
    /// Standard output takes no more.
    pub fn line(&self, text: &str) -> io::Result<()> {
        write(format!("{text}\n").as_bytes())
    }

    /// Prints JSON as it came, on a line of its own.
    ///
    /// # Errors
    /// Standard output takes no more.
    pub fn json(&self, bytes: &[u8]) -> io::Result<()> {
        let mut line = bytes.trim_ascii_end().to_vec();
        line.push(b'\n');
        write(&line)
    }

    /// Prints a text that ends its own lines.
    pub(super) fn text(&self, bytes: &[u8]) -> io::Result<()> {
        write(bytes)
    }

    /// Prints a table.
    ///
    /// # Errors
    /// Standard output takes no more.
    pub fn table(&self, table: &Table) -> io::Result<()> {
        write(table.render(self.colour, self.columns).as_bytes())
    }

    /// Prints the members of an object, one a line: first those of `order`, then the others.
    pub(super) fn fields(&self, object: &Map<String, Value>, order: &[&str]) -> io::Result<()> {
        let first = order.iter().filter_map(|name| object.get_key_value(*name));
        let others = object.iter().filter(|(name, _)| !order.contains(&name.as_str()));
        let shown: Vec<_> = first.chain(others).filter(|(_, value)| !value.is_null()).collect();
        let width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in shown {
            let padding = " ".repeat(width - name.chars().count());
            // The lines of a text stay in their column.
            let value = plain(value).trim_end().replace('\n', &format!("\n{}", " ".repeat(width + 2)));
            text.push_str(&format!("{}{padding}  {value}\n", paint(name, CellStyle::Faint, self.colour)));
        }
        write(text.as_bytes())
    }
}

/// Says on stderr what is going on. A closed stderr is nobody's problem.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Columns of a terminal; `None` for anything else, and for one that does not know.
pub(super) fn columns(stream: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// A JSON value for people: texts without quotes, the rest compact.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn paint(text: &str, look: CellStyle, colour: bool) -> String {
    let code = match look {
        _ if !colour => return text.to_owned(),
        CellStyle::Plain => return text.to_owned(),
        CellStyle::Good => "32",
        CellStyle::Bad => "31",
        CellStyle::Faint => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_nothing_trails() {
        let mut table = Table::new(&["NAME", "MODE"]);
        table.row(vec!["größer".into(), "POOL".into()]);
        table.row(vec!["a".into(), Cell::new("LOCAL", CellStyle::Good)]);
        assert_eq!(table.render(false, None), "NAME    MODE\ngrößer  POOL\na       LOCAL\n");
        assert!(table.render(true, Some(13)).contains("a       \u{1b}[32mLOCAL\u{1b}[0m\n"));
    }

    #[test]
    fn the_last_column_is_cut_where_the_terminal_ends() {
        let mut table = Table::new(&["NAME", "ERROR"]).cut();
        table.row(vec!["f".into(), Cell::new("no route to\nhost", CellStyle::Bad)]);
        for (columns, expected) in [
            (None, "f     no route to\nhost\n"),
            (Some(80), "f     no route to host\n"),
            (Some(16), "f    no route t…\n"),
            (Some(7), "f    no rout…\n"),
        ] {
            let head = if expected.starts_with("f     ") { "NAME  ERROR" } else { "NAME ERROR" };
            assert_eq!(table.render(false, columns), format!("{head}\n{expected}"));
        }
    }
}
