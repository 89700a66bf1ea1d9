//! The keys, over everything else.

use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};

use super::{Tone, ViewOptions};
use crate::top::keys::HELP;

/// Width of the keys' names, and of the whole.
const KEYS: usize = 12;
const WIDTH: u16 = 54;

pub(super) fn draw(frame: &mut Frame<'_>, look: &ViewOptions) {
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(keys, meaning)| {
            let padding = " ".repeat(KEYS.saturating_sub(keys.chars().count()) + 1);
            Line::from(vec![
                Span::styled(format!(" {keys}{padding}"), look.style(Tone::Strong)),
                Span::raw(*meaning),
            ])
        })
        .collect();
    let [row] = Layout::vertical([Constraint::Length(lines.len() as u16 + 2)])
        .flex(ratatui::layout::Flex::Center)
        .areas(frame.area());
    let [area] =
        Layout::horizontal([Constraint::Length(WIDTH)]).flex(ratatui::layout::Flex::Center).areas(row);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), area);
}
