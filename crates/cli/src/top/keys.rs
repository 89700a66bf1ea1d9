//! What a key means.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Something that a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    /// Freeze the picture, or let it go on.
    Pause,
    /// Show the keys, or hide them.
    Help,
    /// Sort by the column this many to the right.
    Sort(isize),
    /// Sort the other way round.
    Reverse,
    /// Move down by this many rows; negative is up.
    Scroll(isize),
    /// Move by this many pages.
    Page(isize),
    First,
    Last,
    /// Start to write a filter.
    Filter,
    /// One more letter of the filter.
    Letter(char),
    /// One letter of it less.
    Erase,
    /// The filter is as it should be.
    Accept,
    /// No filter, no help.
    Clear,
}

/// What every key does, for the help.
pub(super) const HELP: [(&str, &str); 8] = [
    ("q, Ctrl-C", "quit"),
    ("p, space", "freeze the picture, let it go on"),
    ("←  →", "sort by another column"),
    ("r", "sort the other way round"),
    ("/", "show only names that contain …"),
    ("Esc", "show all names again"),
    ("↑  ↓, j  k", "move; also PgUp, PgDn, Home, End"),
    ("?, h", "show or hide this"),
];

/// What a key means, `is_writing` a filter or not.
pub(super) fn action(key: KeyEvent, is_writing: bool) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if is_control => Some(Action::Quit),
        KeyCode::Char('u') if is_control && is_writing => Some(Action::Clear),
        KeyCode::Char(_) if is_control => None,
        KeyCode::Char(letter) if is_writing => Some(Action::Letter(letter)),
        KeyCode::Backspace if is_writing => Some(Action::Erase),
        KeyCode::Enter if is_writing => Some(Action::Accept),
        KeyCode::Esc => Some(Action::Clear),
        KeyCode::Char(letter) => of_letter(letter),
        KeyCode::Left => Some(Action::Sort(-1)),
        KeyCode::Right => Some(Action::Sort(1)),
        KeyCode::Up => Some(Action::Scroll(-1)),
        KeyCode::Down => Some(Action::Scroll(1)),
        KeyCode::PageUp => Some(Action::Page(-1)),
        KeyCode::PageDown => Some(Action::Page(1)),
        KeyCode::Home => Some(Action::First),
        KeyCode::End => Some(Action::Last),
        _ => None,
    }
}

fn of_letter(letter: char) -> Option<Action> {
    Some(match letter {
        'q' => Action::Quit,
        'p' | ' ' => Action::Pause,
        '?' | 'h' => Action::Help,
        '<' => Action::Sort(-1),
        '>' | 's' => Action::Sort(1),
        'r' => Action::Reverse,
        'k' => Action::Scroll(-1),
        'j' => Action::Scroll(1),
        'g' => Action::First,
        'G' => Action::Last,
        '/' => Action::Filter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let (none, control) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        for (code, modifiers, is_writing, expected) in [
            (KeyCode::Char('q'), none, false, Some(Action::Quit)),
            (KeyCode::Char('q'), none, true, Some(Action::Letter('q'))),
            (KeyCode::Char('c'), control, true, Some(Action::Quit)),
            (KeyCode::Char('q'), control, false, None),
            (KeyCode::Char('x'), none, false, None),
            (KeyCode::Char('G'), KeyModifiers::SHIFT, false, Some(Action::Last)),
            (KeyCode::Left, none, false, Some(Action::Sort(-1))),
            (KeyCode::Down, none, true, Some(Action::Scroll(1))),
            (KeyCode::Enter, none, false, None),
            (KeyCode::Enter, none, true, Some(Action::Accept)),
            (KeyCode::Esc, none, true, Some(Action::Clear)),
            (KeyCode::F(5), none, false, None),
        ] {
            assert_eq!(action(KeyEvent::new(code, modifiers), is_writing), expected, "{code:?}");
        }
        let release = KeyEvent::new_with_kind(KeyCode::Char('q'), none, KeyEventKind::Release);
        assert_eq!(action(release, false), None);
    }
}
