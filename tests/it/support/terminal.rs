//! A program in a terminal: what it shows, what is typed, what it leaves behind.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZero,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Termios, Winsize, tcgetattr, tcsetwinsize},
};

use super::{PATIENCE, eventually};

/// A running program whose standard streams are a terminal of 24 lines. Dropping it kills it.
pub struct Terminal {
    child: Child,
    control: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Rows and columns.
    size: (u16, u16),
    /// Settings of the terminal before the program started.
    before: Settings,
}

/// What a program may change about a terminal: input, output and local modes.
type Settings = (u32, u32, u32);

impl Terminal {
    /// Starts a program in a terminal this wide; Ctrl-C typed there is a signal, as in a real one.
    pub fn start(command: &Command, columns: u16) -> Terminal {
        let control =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&control).and_then(|()| unlockpt(&control)).expect("a terminal");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&control, size).expect("a size");
        let name = ptsname(&control, Vec::new()).expect("a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let side =
            || -> Stdio { open(name.as_c_str(), flags, Mode::empty()).expect("its other side").into() };

        let mut leader = Command::new("setsid");
        leader.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        leader.env("TERM", "xterm-256color");
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                leader.env(name, value);
            }
        }
        let before = settings(&control);
        let child = leader.stdin(side()).stdout(side()).stderr(side()).spawn().expect("the program starts");
        let control = File::from(control);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (screen, mut reader) = (Arc::clone(&shown), control.try_clone().expect("a descriptor"));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Fails when the program has closed its side.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                screen.lock().expect("no panic").extend_from_slice(&bytes[..count]);
            }
        });
        Terminal { child, control, shown, size: (size.ws_row, size.ws_col), before }
    }

    /// Types something.
    pub fn press(&mut self, keys: &str) {
        self.control.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Everything that was written so far, escape sequences included.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no panic")).into_owned()
    }

    /// What stands on the screen now.
    pub fn text(&self) -> String {
        self.parser().screen().contents()
    }

    /// Waits until something stands on the screen.
    #[track_caller]
    pub fn await_text(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.text().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not on the screen:\n{}", self.text());
            super::pace(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until the terminal is as it was before the program started: its settings, which screen it shows, a
    /// cursor that can be seen.
    #[track_caller]
    pub fn await_restored(&self) {
        eventually("the terminal is put back", || {
            let parser = self.parser();
            let screen = parser.screen();
            self.is_restored() && !screen.alternate_screen() && !screen.hide_cursor()
        });
    }

    /// Whether colours stand on the screen.
    pub fn is_coloured(&self) -> bool {
        let (parser, (rows, columns)) = (self.parser(), self.size);
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        cells
            .filter_map(|(row, column)| parser.screen().cell(row, column))
            .any(|cell| cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default)
    }

    fn parser(&self) -> vt100::Parser {
        let lines = |count| NonZero::new(count).expect("a size");
        let mut parser = vt100::Parser::new(lines(self.size.0), lines(self.size.1), 0);
        parser.process(&self.shown.lock().expect("no panic"));
        parser
    }

    /// Sends a signal by name.
    pub fn signal(&self, signal: &str) {
        let killed =
            Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(killed.is_ok_and(|status| status.success()), "kill -{signal}");
    }

    /// Waits for the end of the program; its exit code.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        eventually("the program ends", || match self.child.try_wait().expect("our child") {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        });
        code
    }

    /// Whether the terminal's settings are what they were before the program started.
    pub fn is_restored(&self) -> bool {
        settings(&self.control) == self.before
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(terminal: &impl std::os::fd::AsFd) -> Settings {
    let Termios { input_modes, output_modes, local_modes, .. } = tcgetattr(terminal).expect("settings");
    (input_modes.bits(), output_modes.bits(), local_modes.bits())
}
