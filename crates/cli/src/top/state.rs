//! What the screen shows of what is known: the picture, the order, the filter, how far it is scrolled.

use std::collections::VecDeque;

use super::{
    columns::RowOrder,
    keys::Action,
    picture::{FunctionRow, Picture},
};

/// Totals that are kept for the curve; more than any terminal is wide.
const HISTORY_MAX: usize = 1000;
/// Longest filter, in characters: names are not longer.
const FILTER_MAX: usize = 63;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct TopState {
    /// What is shown; `None` before the first look.
    pub(super) picture: Option<Picture>,
    /// Why there is nothing newer, while the server is away.
    pub(super) problem: Option<String>,
    /// Total rates, one a second, oldest first.
    pub(super) history: VecDeque<u64>,
    pub(super) order: RowOrder,
    /// What names must contain, in any case.
    pub(super) filter: String,
    /// Whether keys are letters of the filter.
    pub(super) is_writing: bool,
    pub(super) is_paused: bool,
    pub(super) is_helping: bool,
    /// First row that is shown.
    pub(super) offset: usize,
    /// Rows that fit, as of the last time it was drawn.
    pub(super) page: usize,
}

impl TopState {
    /// Takes a new picture.
    pub(super) fn show(&mut self, picture: Picture) {
        self.problem = None;
        self.history.push_back(picture.total.rate.unwrap_or(0.0).round() as u64);
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
        if !self.is_paused || self.picture.is_none() {
            self.picture = Some(picture);
        }
    }

    /// There is no new picture; the last one stays.
    pub(super) fn lose(&mut self, problem: String) {
        self.problem = Some(problem);
        self.history.push_back(0);
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
    }

    /// Rows that pass the filter, in their order.
    pub(super) fn rows(&self) -> Vec<&FunctionRow> {
        let wanted = self.filter.to_lowercase();
        let rows = self.picture.iter().flat_map(|picture| &picture.rows);
        let mut rows: Vec<&FunctionRow> =
            rows.filter(|row| row.name.to_lowercase().contains(&wanted)).collect();
        self.order.sort(&mut rows);
        rows
    }

    /// Does what a key asks for; false when that is to quit.
    pub(super) fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Quit => return false,
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Help => self.is_helping = !self.is_helping,
            Action::Sort(columns) => self.order = self.order.moved(columns),
            Action::Reverse => self.order.is_reversed = !self.order.is_reversed,
            Action::Scroll(rows) => self.scroll(rows),
            Action::Page(pages) => self.scroll(pages * self.page.max(1) as isize),
            Action::First => self.offset = 0,
            Action::Last => self.offset = usize::MAX,
            Action::Filter => self.is_writing = true,
            Action::Accept => self.is_writing = false,
            Action::Letter(letter) if self.filter.chars().count() < FILTER_MAX => self.filter.push(letter),
            Action::Letter(_) => {}
            Action::Erase => {
                // Erasing more than there is means: no filter after all.
                self.is_writing = self.filter.pop().is_some();
            }
            Action::Clear if self.is_helping => self.is_helping = false,
            Action::Clear => {
                self.filter.clear();
                self.is_writing = false;
            }
        }
        self.keep_in_sight();
        true
    }

    /// Says how many rows fit.
    pub(super) fn fit(&mut self, page: usize) {
        self.page = page;
        self.keep_in_sight();
    }

    fn scroll(&mut self, rows: isize) {
        self.offset = self.offset.saturating_add_signed(rows);
    }

    /// The last row never leaves the bottom of a full page.
    fn keep_in_sight(&mut self) {
        self.offset = self.offset.min(self.rows().len().saturating_sub(self.page.max(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::columns::Column, *};

    fn state(names: &[&str]) -> TopState {
        let rows = names
            .iter()
            .map(|name| FunctionRow { name: (*name).to_owned(), ..FunctionRow::default() })
            .collect();
        let mut state = TopState::default();
        state.show(Picture { rows, ..Picture::default() });
        state.fit(2);
        state
    }

    fn names(state: &TopState) -> Vec<&str> {
        state.rows().into_iter().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn a_filter_is_written_accepted_and_cleared() {
        let mut state = state(&["alpha", "Beta", "gamma"]);
        for (actions, writing, expected) in [
            (&[Action::Filter][..], true, &["Beta", "alpha", "gamma"][..]),
            (&[Action::Letter('B')], true, &["Beta"]),
            (&[Action::Letter('x')], true, &[]),
            (&[Action::Erase, Action::Accept], false, &["Beta"]),
            (&[Action::Clear], false, &["Beta", "alpha", "gamma"]),
            (&[Action::Filter, Action::Letter('M'), Action::Clear], false, &["Beta", "alpha", "gamma"]),
            (
                &[Action::Filter, Action::Letter('m'), Action::Erase, Action::Erase],
                false,
                &["Beta", "alpha", "gamma"],
            ),
        ] {
            assert!(actions.iter().all(|action| state.act(*action)));
            assert_eq!((state.is_writing, names(&state)), (writing, expected.to_vec()), "{actions:?}");
        }
        state.act(Action::Filter);
        (0..100).for_each(|_| assert!(state.act(Action::Letter('é'))));
        assert_eq!(state.filter.chars().count(), FILTER_MAX);
    }

    #[test]
    fn scrolling_stays_in_sight() {
        let mut state = state(&["a", "b", "c", "d", "e"]);
        for (action, expected) in [
            (Action::Scroll(-1), 0),
            (Action::Scroll(1), 1),
            (Action::Page(1), 3),
            (Action::Page(1), 3),
            (Action::First, 0),
            (Action::Last, 3),
            (Action::Scroll(-2), 1),
        ] {
            assert!(state.act(action));
            assert_eq!(state.offset, expected, "{action:?}");
        }
        state.act(Action::Last);
        state.fit(4);
        assert_eq!(state.offset, 1);
        state.show(Picture::default());
        state.fit(4);
        assert_eq!(state.offset, 0);
    }

    #[test]
    fn a_pause_keeps_the_picture_and_a_loss_says_why() {
        let mut state = state(&["a"]);
        state.act(Action::Pause);
        state.show(Picture::default());
        assert_eq!(names(&state), ["a"]);
        state.lose("gone".to_owned());
        assert_eq!((names(&state), state.problem.as_deref()), (vec!["a"], Some("gone")));
        state.act(Action::Pause);
        state.show(Picture::default());
        assert_eq!((names(&state).len(), state.problem.is_none(), state.history.len()), (0, true, 4));
        (0..2 * HISTORY_MAX).for_each(|_| state.show(Picture::default()));
        assert_eq!(state.history.len(), HISTORY_MAX);
    }

    #[test]
    fn other_keys() {
        let mut state = state(&["a"]);
        state.act(Action::Sort(1));
        state.act(Action::Reverse);
        assert_eq!(state.order, RowOrder { column: Column::P50, is_reversed: true });
        state.act(Action::Help);
        state.filter = "x".to_owned();
        state.act(Action::Clear);
        assert_eq!((state.is_helping, state.filter.as_str()), (false, "x"), "one thing at a time");
        assert!(!state.act(Action::Quit));
    }
}
