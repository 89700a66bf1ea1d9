//! The terminal while it is ours: raw, on its other screen, and put back whatever happens.

use std::io;

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event},
};
use tokio::sync::mpsc;

/// Keys that wait to be acted on; more than fingers can type meanwhile.
const EVENTS_MAX: usize = 64;

/// See the module. Dropping it puts the terminal back; so does a panic, by a hook that ratatui installs.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Screen> {
        ratatui::try_init().map(|terminal| Screen { terminal }).inspect_err(|_| ratatui::restore())
    }

    /// Draws everything; only what has changed is sent.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back, and there is nobody to tell.
        let _ = ratatui::try_restore();
    }
}

/// Keys and changes of size. The thread that reads them ends with the process: a blocked read cannot be called off.
pub(super) fn events() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    });
    receiver
}
