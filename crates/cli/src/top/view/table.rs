//! The table of functions and the line below it.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    text::Line,
    widgets::{Cell, Paragraph, Row as TableRow, Table},
};

use super::{Tone, ViewOptions};
use crate::top::{columns::Column, picture::FunctionRow, state::TopState};

/// Least width of the names; columns that are less important make room for it.
const NAME_MIN: usize = 12;
/// Columns that can be missing, the first to go first.
const OPTIONAL: [Column; 5] =
    [Column::Retries, Column::ReplicaCounts, Column::Mode, Column::P50, Column::Queue];
/// Keys to know, and what is left of them where there is no room.
const KEYS: [&str; 2] = ["q quit  ←→ sort  / filter  p pause  ? help", "? help"];
/// A terminal of this width has room for whole words in the mode.
const WIDE: u16 = 100;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &TopState, look: &ViewOptions) {
    let rows = state.rows();
    if rows.is_empty() {
        let text = match &state.picture {
            None if state.problem.is_some() => String::new(),
            None => "taking a first look …".to_owned(),
            Some(picture) if picture.rows.is_empty() => {
                "no functions; register one with: nanofaas fn apply -f FILE".to_owned()
            }
            Some(_) => format!("no function has {:?} in its name; Esc shows all", state.filter),
        };
        frame.render_widget(Paragraph::new(vec![Line::default(), Line::raw(text)]).centered(), area);
        return;
    }
    let shown: Vec<&FunctionRow> = rows.into_iter().skip(state.offset).take(state.page).collect();
    let columns = layout(&shown, area.width);
    let head = columns.iter().map(|(column, _)| {
        let tone = if *column == state.order.column { Tone::Marked } else { Tone::Strong };
        Cell::from(Line::raw(column.title()).alignment(alignment(*column))).style(look.style(tone))
    });
    let body = shown.iter().map(|row| {
        TableRow::new(columns.iter().map(|(column, _)| {
            let line = Line::raw(text(*column, row, area.width)).alignment(alignment(*column));
            Cell::from(line).style(look.style(tone(*column, row)))
        }))
    });
    let table = Table::new(body, columns.iter().map(|(_, width)| Constraint::Length(*width as u16)))
        .header(TableRow::new(head))
        .column_spacing(1);
    frame.render_widget(table, area);
}

/// Keys on the left, what is shown on the right; a filter that is being written takes the whole line.
pub(super) fn draw_foot(frame: &mut Frame<'_>, area: Rect, state: &TopState, look: &ViewOptions) {
    if state.is_writing {
        let line = format!("names with: {}█   Enter keeps it, Esc drops it", state.filter);
        frame.render_widget(Paragraph::new(line), area);
        return;
    }
    let mut facts = Vec::new();
    if !state.filter.is_empty() {
        facts.push(format!("names with {:?}", state.filter));
    }
    let count = state.rows().len();
    let last = (state.offset + state.page).min(count);
    if last - state.offset.min(last) < count {
        facts.push(format!("{}-{last} of {count}", state.offset + 1));
    }
    let arrow = if state.order.is_ascending() { '↑' } else { '↓' };
    facts.push(format!("by {} {arrow}", state.order.column.title()));
    let facts = facts.join("  ");
    let pause = if state.is_paused { " PAUSED " } else { "" };
    let width = |text: &str| text.chars().count() as u16;
    let [keys, mark, right] = Layout::horizontal([
        Constraint::Fill(1),
        Constraint::Length(width(pause) + 1),
        Constraint::Length(width(&facts)),
    ])
    .areas(area);
    let fits = |text: &&&str| width(text) <= keys.width;
    let text = KEYS.iter().find(fits).copied().unwrap_or_default();
    frame.render_widget(Paragraph::new(text).style(look.style(Tone::Faint)), keys);
    frame.render_widget(Paragraph::new(Line::styled(pause, look.style(Tone::Marked))), mark);
    frame.render_widget(Paragraph::new(facts), right);
}

/// The columns that fit, and their widths.
fn layout(rows: &[&FunctionRow], width: u16) -> Vec<(Column, usize)> {
    let mut columns: Vec<(Column, usize)> = Column::ALL
        .iter()
        .map(|column| {
            let cells = rows.iter().map(|row| text(*column, row, width).chars().count());
            (*column, cells.chain([least(*column)]).max().unwrap_or(0))
        })
        .collect();
    let wanted = columns[0].1.min(NAME_MIN);
    let mut optional = OPTIONAL.iter();
    loop {
        let others: usize = columns.iter().skip(1).map(|(_, width)| width + 1).sum();
        let name = usize::from(width).saturating_sub(others);
        match optional.next() {
            Some(column) if name < wanted => columns.retain(|(other, _)| other != column),
            // What is over stays empty, at the right of the names.
            _ => {
                columns[0].1 = name;
                return columns;
            }
        }
    }
}

/// Width of the title, or of what numbers usually need: columns should not jump.
fn least(column: Column) -> usize {
    let usual = match column {
        Column::P50 | Column::P99 | Column::ReplicaCounts => 5,
        Column::Busy => 7,
        _ => 0,
    };
    column.title().len().max(usual)
}

fn text(column: Column, row: &FunctionRow, width: u16) -> String {
    match row.mode.as_deref() {
        Some("DEPLOYMENT") if column == Column::Mode && width < WIDE => "DEPLOY".to_owned(),
        _ => column.text(row),
    }
}

fn alignment(column: Column) -> Alignment {
    match column {
        Column::Name | Column::Mode => Alignment::Left,
        _ => Alignment::Right,
    }
}

fn tone(column: Column, row: &FunctionRow) -> Tone {
    match column {
        Column::Errors if row.errors > Some(0.0) => Tone::Bad,
        Column::Retries if row.retries > Some(0.0) => Tone::Warning,
        Column::Queue if row.queue_depth > 0.0 => Tone::Warning,
        Column::Busy if row.concurrency > 0.0 && row.in_flight >= row.concurrency => Tone::Warning,
        Column::ReplicaCounts if row.replicas.is_some_and(|replicas| replicas.ready < replicas.desired) => {
            Tone::Warning
        }
        Column::Name => Tone::Strong,
        // A function at rest steps back.
        _ if row.rate == Some(0.0) && row.in_flight == 0.0 => Tone::Faint,
        _ => Tone::Plain,
    }
}
