//! What stands on the screen.

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    style::{Color, Modifier},
};

use super::*;
use crate::top::{
    keys::Action,
    picture::{AnswerRates, FunctionRow, Picture},
    scrape::{Process, ReplicaCounts},
};

fn row(name: &str, rate: f64) -> FunctionRow {
    FunctionRow {
        name: name.to_owned(),
        mode: Some("DEPLOYMENT".to_owned()),
        rate: Some(rate),
        p50: Some(0.001_2),
        p99: Some(75.0),
        errors: Some(0.0),
        retries: Some(0.5),
        queue_depth: 7.0,
        in_flight: 4.0,
        concurrency: 4.0,
        replicas: Some(ReplicaCounts { desired: 3.0, ready: 2.0 }),
    }
}

fn rates(refusals: &[(&str, f64)]) -> AnswerRates {
    let named = |(of, rate): &(&str, f64)| ((*of).to_owned(), *rate);
    let classes = [("2xx", 1203.0), ("4xx", 12.0), ("5xx", 0.0)].iter().map(named).collect();
    AnswerRates { classes, refusals: refusals.iter().map(named).collect() }
}

fn state(rows: Vec<FunctionRow>) -> TopState {
    let process = Process { resident_bytes: 47_395_635.0, shards: 2, ..Process::default() };
    let total = FunctionRow { rate: Some(1203.0), ..row("", 1203.0) };
    let answers = Some(rates(&[("rate_limit_server", 12.0)]));
    let mut state = TopState::default();
    state.show(Picture { process, cpus: Some(1.32), answers, rows, total });
    state
}

fn drawn(state: &mut TopState, width: u16, height: u16, is_coloured: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let look = ViewOptions::new("http://h:8081", is_coloured);
    terminal.draw(|frame| draw(frame, state, &look)).expect("a drawing");
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    let line = |cells: &[ratatui::buffer::Cell]| {
        cells.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()
    };
    buffer.content.chunks(width).map(line).collect()
}

#[test]
fn eighty_columns_hold_everything() {
    let mut state = state(vec![row("echo", 3.0), row("json-transform-node", 1200.0)]);
    let lines = lines(&drawn(&mut state, 80, 17, true));
    let peak = "█".len();
    for (number, expected) in [
        (0, "http://h:8081  up -  cpu 132%  45.2 MiB  2 shards  drift 0"),
        (1, "2 functions  1203 calls/s  p99 75s  err 0/s  retry 0.50/s  busy 4  queue 7"),
        (2, "2xx 1203/s  4xx 12/s  5xx 0/s  refused 12/s: rate_limit_server 12"),
        (5, "FUNCTION             MODE   RATE/S   P50   P99 ERR/S QUEUE    BUSY  REPL RETRY/S"),
        (6, "json-transform-node  DEPLOY   1200 1.2ms   75s     0     7     4/4   2/3    0.50"),
        (7, "echo                 DEPLOY      3 1.2ms   75s     0     7     4/4   2/3    0.50"),
        (8, ""),
        (16, "q quit  ←→ sort  / filter  p pause  ? help                           by RATE/S ↓"),
    ] {
        assert_eq!(lines[number], expected, "line {number} of {lines:#?}");
    }
    assert!(lines[3].starts_with("calls/s") && lines[3].ends_with('█'), "{}", lines[3].len() - peak);
    assert!(lines[4].starts_with("peak 1203") && lines[4].ends_with('█'));
}

#[test]
fn narrow_terminals_lose_columns_and_wide_ones_gain_words() {
    for (width, expected) in [
        (120, "DEPLOYMENT"),
        (60, "json-transform DEPLOY   1200 1.2ms   75s     0     7     4/4"),
        (40, "json-transfor   1200   75s     0     4/4"),
    ] {
        let mut state = state(vec![row("json-transform-node", 1200.0)]);
        let lines = lines(&drawn(&mut state, width, 17, true));
        let found = lines.iter().any(|line| line.contains(expected));
        assert!(found, "{width}: {lines:#?}");
    }
    // Nothing that small is of use, and nothing that small may end in a panic.
    for (width, height) in [(1, 1), (0, 0), (80, 2), (5, 24), (80, 3)] {
        let mut state = state(vec![row("f", 1.0)]);
        state.problem = Some("gone".to_owned());
        state.is_helping = true;
        drawn(&mut state, width, height, true);
    }
}

#[test]
fn what_is_wrong_has_a_colour_when_there_are_colours() {
    let mut failing = row("f", 5.0);
    failing.errors = Some(2.0);
    let mut state = state(vec![failing]);
    for is_coloured in [true, false] {
        let buffer = drawn(&mut state, 80, 17, is_coloured);
        let colours = buffer.content.iter().filter(|cell| cell.fg != Color::Reset).count();
        assert_eq!(colours > 0, is_coloured);
        let lines = lines(&buffer);
        let end = lines[5].find("ERR/S").expect("its head") + 4;
        let errors = &buffer[(end as u16, 6)];
        assert_eq!((errors.symbol(), errors.fg == Color::Red), ("2", is_coloured), "{lines:#?}");
        assert!(errors.modifier.contains(Modifier::BOLD));
    }
}

#[test]
fn a_server_that_is_away_leaves_its_last_picture_in_grey() {
    let mut state = state(vec![row("echo", 3.0)]);
    state.lose("connection refused".to_owned());
    let buffer = drawn(&mut state, 80, 17, true);
    let lines = lines(&buffer);
    assert_eq!(lines[5], "cannot reach http://h:8081: connection refused; retrying");
    assert!(lines[7].starts_with("echo "), "{lines:#?}");
    let grey = |line: u16| buffer[(0, line)].fg == Color::DarkGray;
    assert_eq!([grey(0), grey(5), grey(7)], [true, false, true]);
    state.show(Picture::default());
    assert!(!tests::lines(&drawn(&mut state, 80, 17, true))[5].contains("cannot reach"));
}

#[test]
fn what_there_is_instead_of_rows() {
    let mut nothing = TopState::default();
    assert!(lines(&drawn(&mut nothing, 80, 17, true)).concat().contains("a first look"));
    nothing.lose("gone".to_owned());
    assert!(!lines(&drawn(&mut nothing, 80, 17, true)).concat().contains("a first look"));
    let mut empty = state(Vec::new());
    assert!(lines(&drawn(&mut empty, 80, 17, true)).concat().contains("no functions; register one"));
    let mut filtered = state(vec![row("f", 1.0)]);
    filtered.filter = "x".to_owned();
    assert!(
        lines(&drawn(&mut filtered, 80, 17, true)).concat().contains("no function has \"x\" in its name")
    );
}

#[test]
fn the_last_line_tells_what_is_shown() {
    let mut state = state((0..30).map(|number| row(&format!("f{number:02}"), 1.0)).collect());
    let mut foot = |actions: &[Action]| {
        actions.iter().for_each(|action| assert!(state.act(*action)));
        lines(&drawn(&mut state, 90, 17, true)).pop().expect("a line")
    };
    for (actions, expected) in [
        (&[][..], "1-10 of 30  by RATE/S ↓"),
        (&[Action::Last], "21-30 of 30  by RATE/S ↓"),
        (&[Action::Pause, Action::Reverse], " PAUSED  21-30 of 30  by RATE/S ↑"),
        (
            &[Action::Filter, Action::Letter('f'), Action::Letter('3')],
            "names with: f3█   Enter keeps it, Esc drops it",
        ),
        (&[Action::Accept], " PAUSED  names with \"f3\"  by RATE/S ↑"),
    ] {
        let line = foot(actions);
        assert!(line.ends_with(expected), "{line}");
    }
}

#[test]
fn help_shows_every_key() {
    let mut state = state(vec![row("f", 1.0)]);
    state.is_helping = true;
    let text = lines(&drawn(&mut state, 80, 24, true)).join("\n");
    for (keys, meaning) in crate::top::keys::HELP {
        assert!(text.contains(keys) && text.contains(meaning), "{keys}: {text}");
    }
}

#[test]
fn why_calls_are_refused_fits_the_line_and_rare_ones_are_counted() {
    let line = |refusals: &[(&str, f64)], width: u16| {
        let mut state = state(vec![row("f", 1.0)]);
        if let Some(picture) = &mut state.picture {
            picture.answers = Some(rates(refusals));
        }
        lines(&drawn(&mut state, width, 17, true)).swap_remove(2)
    };
    let many = [
        ("rate_limit_server", 120_000.0),
        ("sync_queue_rejected", 12.5),
        ("queue_full", 3.0),
        ("not_found", 0.5),
    ];
    let start = "2xx 1203/s  4xx 12/s  5xx 0/s  refused";
    for (refusals, width, expected) in [
        (&[][..], 80, " 0/s"),
        (&many[2..], 80, " 3.5/s: queue_full 3, not_found 0.50"),
        (&many[1..], 80, " 16/s: sync_queue_rejected 12, 2 more"),
        (&many, 80, " 120k/s: rate_limit_server 120k, 3 more"),
        (&many, 110, " 120k/s: rate_limit_server 120k, sync_queue_rejected 12, 2 more"),
        (&many, 130, " 120k/s: rate_limit_server 120k, sync_queue_rejected 12, queue_full 3, not_found 0.50"),
    ] {
        let line = line(refusals, width);
        assert_eq!(line, format!("{start}{expected}"), "{width}");
        assert!(line.len() <= usize::from(width), "{line}");
    }
}

#[test]
fn refusals_and_failures_have_a_colour_and_nothing_known_is_a_dash() {
    let mut failing = rates(&[]);
    failing.classes[2].1 = 1.0;
    for (answers, expected, text) in [
        (Some(rates(&[])), Color::Reset, "refused 0/s"),
        (Some(rates(&[("queue_full", 1.0)])), Color::Yellow, "refused 1/s: queue_full 1"),
        (Some(failing), Color::Red, "5xx 1/s"),
        (None, Color::Reset, "2xx -  4xx -  5xx -  refused -"),
    ] {
        let mut state = state(vec![row("f", 1.0)]);
        if let Some(picture) = &mut state.picture {
            picture.answers = answers;
        }
        let buffer = drawn(&mut state, 80, 17, true);
        assert_eq!(buffer[(0, 2)].fg, expected, "{text}");
        assert!(lines(&buffer)[2].contains(text), "{text}");
    }
}
