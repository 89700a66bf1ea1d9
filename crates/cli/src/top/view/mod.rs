//! The screen, drawn from the state:
//!
//! ```text
//! http://127.0.0.1:8081  up 12m04s  cpu 132%  45.2 MiB  2 shards  drift 0
//! 3 functions  1203 calls/s  p99 2.1ms  err 0/s  …
//! 2xx 1203/s  4xx 12/s  5xx 0/s  refused 12/s: queue_full 12
//! calls/s  ▁▂▃▅▇▆▅
//! cannot reach …, retrying                       (only then)
//! FUNCTION   MODE    RATE/S   P50 …
//! echo       LOCAL     1200  45µs …
//! q quit  …                            1-3 of 3  by RATE/S ↓
//! ```
//!
//! While the server is away, all but the reason is grey.

pub(super) mod header;
mod help;
mod table;
#[cfg(test)]
mod tests;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::Paragraph,
};

use super::state::TopState;

/// Lines about the server as a whole.
const HEAD_LINES: u16 = 3;
/// Lines of the curve, and the height of a terminal that has room for them.
const CURVE_LINES: u16 = 2;
const CURVE_HEIGHT_MIN: u16 = 15;

/// What is the same in every drawing.
pub(super) struct ViewOptions {
    /// Management address of the server.
    address: String,
    is_coloured: bool,
}

/// How a piece of text looks. Without colours the modifiers remain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Strong,
    Faint,
    /// What stands out: the column that is sorted by, a state.
    Marked,
    Good,
    Warning,
    Bad,
}

impl ViewOptions {
    pub(super) fn new(address: &str, is_coloured: bool) -> ViewOptions {
        ViewOptions { address: address.to_owned(), is_coloured }
    }

    fn style(&self, tone: Tone) -> Style {
        let (modifier, colour) = match tone {
            Tone::Plain => (Modifier::empty(), None),
            Tone::Strong => (Modifier::BOLD, None),
            Tone::Faint => (Modifier::DIM, None),
            Tone::Marked => (Modifier::REVERSED, None),
            Tone::Good => (Modifier::empty(), Some(Color::Green)),
            Tone::Warning => (Modifier::empty(), Some(Color::Yellow)),
            Tone::Bad => (Modifier::BOLD, Some(Color::Red)),
        };
        let style = Style::new().add_modifier(modifier);
        colour.filter(|_| self.is_coloured).map_or(style, |colour| style.fg(colour))
    }

    /// Over what is no longer true.
    fn stale(&self) -> Style {
        let style =
            Style::new().remove_modifier(Modifier::BOLD | Modifier::REVERSED).add_modifier(Modifier::DIM);
        if self.is_coloured { style.fg(Color::DarkGray) } else { style }
    }
}

/// Draws everything and tells the state how many rows fit.
pub(super) fn draw(frame: &mut Frame<'_>, state: &mut TopState, look: &ViewOptions) {
    let area = frame.area();
    let curve_lines = if area.height >= CURVE_HEIGHT_MIN { CURVE_LINES } else { 0 };
    let problem_lines = u16::from(state.problem.is_some());
    let [head, curve, problem, body, foot] = Layout::vertical([
        Constraint::Length(HEAD_LINES),
        Constraint::Length(curve_lines),
        Constraint::Length(problem_lines),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    // One line of the body is the table's own head.
    state.fit(usize::from(body.height.saturating_sub(1)));
    header::draw(frame, head, state, look);
    header::draw_curve(frame, curve, state, look);
    table::draw(frame, body, state, look);
    table::draw_foot(frame, foot, state, look);
    if let Some(reason) = &state.problem {
        for stale in [head, curve, body] {
            frame.buffer_mut().set_style(stale, look.stale());
        }
        draw_problem(frame, problem, reason, look);
    }
    if state.is_helping {
        help::draw(frame, look);
    }
}

fn draw_problem(frame: &mut Frame<'_>, area: Rect, reason: &str, look: &ViewOptions) {
    let address = &look.address;
    let text = format!("cannot reach {address}: {reason}; retrying");
    frame.render_widget(Paragraph::new(Line::styled(text, look.style(Tone::Bad))), area);
}
