//! What stands on the screen.

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    style::{Color, Modifier},
};

use super::*;
use crate::cli::top::{
    buckets::Quantile,
    keys::Action,
    picture::{Picture, Row},
    scrape::{Process, Replicas},
};

fn row(name: &str, rate: f64) -> Row {
    Row {
        name: name.to_owned(),
        mode: Some("DEPLOYMENT".to_owned()),
        rate: Some(rate),
        p50: Some(Quantile::At(0.001_2)),
        p99: Some(Quantile::Over(60.0)),
        errors: Some(0.0),
        retries: Some(0.5),
        queue_depth: 7.0,
        in_flight: 4.0,
        concurrency: 4.0,
        replicas: Some(Replicas { desired: 3.0, ready: 2.0 }),
    }
}

fn state(rows: Vec<Row>) -> State {
    let process = Process { resident_bytes: 47_395_635.0, shards: 2, ..Process::default() };
    let total = Row { rate: Some(1203.0), ..row("", 1203.0) };
    let mut state = State::default();
    state.show(Picture { process, cpus: Some(1.32), rows, total });
    state
}

fn drawn(state: &mut State, width: u16, height: u16, is_coloured: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let look = Look::new("http://h:8081", is_coloured);
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
    let lines = lines(&drawn(&mut state, 80, 16, true));
    let peak = "█".len();
    for (number, expected) in [
        (0, "http://h:8081  up -  cpu 132%  45.2 MiB  2 shards  drift 0"),
        (1, "2 functions  1203 calls/s  p99 >60s  err 0/s  retry 0.50/s  busy 4  queue 7"),
        (4, "FUNCTION             MODE   RATE/S   P50   P99 ERR/S QUEUE    BUSY  REPL RETRY/S"),
        (5, "json-transform-node  DEPLOY   1200 1.2ms  >60s     0     7     4/4   2/3    0.50"),
        (6, "echo                 DEPLOY      3 1.2ms  >60s     0     7     4/4   2/3    0.50"),
        (7, ""),
        (15, "q quit  ←→ sort  / filter  p pause  ? help                           by RATE/S ↓"),
    ] {
        assert_eq!(lines[number], expected, "line {number} of {lines:#?}");
    }
    assert!(lines[2].starts_with("calls/s") && lines[2].ends_with('█'), "{}", lines[2].len() - peak);
    assert!(lines[3].starts_with("peak 1203") && lines[3].ends_with('█'));
}

#[test]
fn narrow_terminals_lose_columns_and_wide_ones_gain_words() {
    for (width, expected) in [
        (120, "DEPLOYMENT"),
        (60, "json-transform DEPLOY   1200 1.2ms  >60s     0     7     4/4"),
        (40, "json-transfor   1200  >60s     0     4/4"),
    ] {
        let mut state = state(vec![row("json-transform-node", 1200.0)]);
        let lines = lines(&drawn(&mut state, width, 16, true));
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
        let buffer = drawn(&mut state, 80, 16, is_coloured);
        let colours = buffer.content.iter().filter(|cell| cell.fg != Color::Reset).count();
        assert_eq!(colours > 0, is_coloured);
        let lines = lines(&buffer);
        let end = lines[4].find("ERR/S").expect("its head") + 4;
        let errors = &buffer[(end as u16, 5)];
        assert_eq!((errors.symbol(), errors.fg == Color::Red), ("2", is_coloured), "{lines:#?}");
        assert!(errors.modifier.contains(Modifier::BOLD));
    }
}

#[test]
fn a_server_that_is_away_leaves_its_last_picture_in_grey() {
    let mut state = state(vec![row("echo", 3.0)]);
    state.lose("connection refused".to_owned());
    let buffer = drawn(&mut state, 80, 16, true);
    let lines = lines(&buffer);
    assert_eq!(lines[4], "cannot reach http://h:8081: connection refused; retrying");
    assert!(lines[6].starts_with("echo "), "{lines:#?}");
    let grey = |line: u16| buffer[(0, line)].fg == Color::DarkGray;
    assert_eq!([grey(0), grey(4), grey(6)], [true, false, true]);
    state.show(Picture::default());
    assert!(!tests::lines(&drawn(&mut state, 80, 16, true))[4].contains("cannot reach"));
}

#[test]
fn what_there_is_instead_of_rows() {
    let mut nothing = State::default();
    assert!(lines(&drawn(&mut nothing, 80, 16, true)).concat().contains("a first look"));
    nothing.lose("gone".to_owned());
    assert!(!lines(&drawn(&mut nothing, 80, 16, true)).concat().contains("a first look"));
    let mut empty = state(Vec::new());
    assert!(lines(&drawn(&mut empty, 80, 16, true)).concat().contains("no functions; register one"));
    let mut filtered = state(vec![row("f", 1.0)]);
    filtered.filter = "x".to_owned();
    assert!(
        lines(&drawn(&mut filtered, 80, 16, true)).concat().contains("no function has \"x\" in its name")
    );
}

#[test]
fn the_last_line_tells_what_is_shown() {
    let mut state = state((0..30).map(|number| row(&format!("f{number:02}"), 1.0)).collect());
    let mut foot = |actions: &[Action]| {
        actions.iter().for_each(|action| assert!(state.act(*action)));
        lines(&drawn(&mut state, 90, 16, true)).pop().expect("a line")
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
    for (keys, meaning) in crate::cli::top::keys::HELP {
        assert!(text.contains(keys) && text.contains(meaning), "{keys}: {text}");
    }
}
