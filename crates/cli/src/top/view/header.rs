//! The server as a whole: three lines and a curve.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::{Paragraph, Sparkline},
};

use super::{Tone, ViewOptions};
use crate::top::{
    figures,
    picture::{AnswerRates, Picture},
    scrape::Process,
    state::TopState,
};

/// Width of the text beside the curve.
const CAPTION: u16 = 14;

/// Uptime, shards, memory, processors and drift, as one line.
pub(in crate::top) fn server(process: &Process, cpus: Option<f64>) -> String {
    format!(
        "up {}  cpu {}  {}  {}  drift {}",
        figures::uptime(process.started_seconds, figures::now_seconds()),
        figures::cpus(cpus),
        figures::bytes(process.resident_bytes),
        counted(process.shards, "shard"),
        figures::count(process.drift),
    )
}

/// What all functions do together, as one line.
pub(in crate::top) fn total(picture: &Picture) -> String {
    let total = &picture.total;
    format!(
        "{}  {} calls/s  p99 {}  err {}/s  retry {}/s  busy {}  queue {}",
        counted(picture.rows.len(), "function"),
        figures::rate(total.rate),
        figures::duration(total.p99),
        figures::rate(total.errors),
        figures::rate(total.retries),
        figures::count(total.in_flight),
        figures::count(total.queue_depth),
    )
}

/// What callers are answered, by class, and why they are refused, as one line of this width at most: the most frequent
/// reason always, the others while there is room.
pub(in crate::top) fn answers(picture: &Picture, width: usize) -> String {
    let Some(answers) = &picture.answers else { return "2xx -  4xx -  5xx -  refused -".to_owned() };
    let mut line = String::new();
    for (class, rate) in &answers.classes {
        line.push_str(&format!("{class} {}/s  ", figures::rate(Some(*rate))));
    }
    // Folded from 0: an empty sum of floating point numbers is -0.
    let refused = answers.refusals.iter().fold(0.0, |sum, (_, rate)| sum + rate);
    line.push_str(&format!("refused {}/s", figures::rate(Some(refused))));
    for (at, (reason, rate)) in answers.refusals.iter().enumerate() {
        let text = format!("{} {reason} {}", if at == 0 { ':' } else { ',' }, figures::rate(Some(*rate)));
        let left = answers.refusals.len() - at;
        // Behind it, there has to be room to say how many are missing.
        let needed = if left == 1 { 0 } else { format!(", {} more", left - 1).len() };
        if at > 0 && line.len() + text.len() + needed > width {
            line.push_str(&format!(", {left} more"));
            break;
        }
        line.push_str(&text);
    }
    line
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &TopState, look: &ViewOptions) {
    let mut first = vec![Span::styled(look.address.clone(), look.style(Tone::Strong))];
    let (mut second, mut third) = (Line::default(), Line::default());
    if let Some(picture) = &state.picture {
        let has_drifted = picture.process.drift != 0.0;
        let tone = if has_drifted { Tone::Bad } else { Tone::Plain };
        first.push(Span::styled(format!("  {}", server(&picture.process, picture.cpus)), look.style(tone)));
        second = Line::raw(total(picture));
        let answered = picture.answers.as_ref();
        let has_failed =
            |answers: &AnswerRates| answers.classes.iter().any(|(of, rate)| of == "5xx" && *rate > 0.0);
        let tone = match answered {
            Some(answers) if has_failed(answers) => Tone::Bad,
            Some(answers) if !answers.refusals.is_empty() => Tone::Warning,
            _ => Tone::Plain,
        };
        third = Line::styled(answers(picture, area.width.into()), look.style(tone));
    }
    frame.render_widget(Paragraph::new(vec![Line::from(first), second, third]), area);
}

/// Total rates of the last minutes, the newest at the right end.
pub(super) fn draw_curve(frame: &mut Frame<'_>, area: Rect, state: &TopState, look: &ViewOptions) {
    let [caption, curve] = Layout::horizontal([Constraint::Length(CAPTION), Constraint::Fill(1)]).areas(area);
    let width = usize::from(curve.width);
    let shown = state.history.iter().skip(state.history.len().saturating_sub(width)).copied();
    let missing = width.saturating_sub(state.history.len());
    let bars: Vec<u64> = std::iter::repeat_n(0, missing).chain(shown).collect();
    let peak = bars.iter().copied().max().unwrap_or(0);
    let caption_lines =
        vec![Line::raw("calls/s"), Line::raw(format!("peak {}", figures::count(peak as f64)))];
    frame.render_widget(Paragraph::new(caption_lines).style(look.style(Tone::Faint)), caption);
    frame.render_widget(Sparkline::default().data(&bars).style(look.style(Tone::Good)), curve);
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
