//! What every start of the program has in common: the words of `WATCHDOG_CMD` and a cleaned environment.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

use super::{
    guard::GUARD_PID,
    invocation::{Failure, Invocation},
    log::WRAPPED,
    options::{Options, PARENT_PID, Task},
    program::{Program, Programs},
};

/// Starts the program.
#[derive(Clone)]
pub struct Launcher {
    programs: Programs,
    /// Program and arguments, not empty.
    words: Vec<String>,
    /// Variables of the watchdog that the program does not get.
    hidden: Vec<&'static str>,
}

impl Launcher {
    /// A launcher for the program that the options name.
    pub fn new(programs: Programs, options: &Options) -> Launcher {
        let mut hidden =
            vec![GUARD_PID, PARENT_PID, WRAPPED, "INVOCATION_PAYLOAD", "INVOCATION_PAYLOAD_FILE"];
        if matches!(options.task, Task::OneShot(_)) {
            // The watchdog reports the result; a program built with an SDK would report it a second time.
            hidden.push("CALLBACK_URL");
        }
        Launcher { programs, words: options.program.clone(), hidden }
    }

    /// Starts a program that serves on `port`.
    ///
    /// # Errors
    /// See [`Programs::start`].
    pub fn start_server(&self, port: u16) -> Result<Program, Failure> {
        let mut command = self.command();
        command.env("PORT", port.to_string());
        self.programs.start(command, Stdio::null())
    }

    /// Starts a program for one call, with additional variables.
    ///
    /// # Errors
    /// See [`Programs::start`].
    pub fn start_call<'a>(
        &self,
        invocation: &Invocation,
        variables: impl IntoIterator<Item = (&'a str, &'a OsStr)>,
        stdin: Stdio,
    ) -> Result<Program, Failure> {
        let mut command = self.command();
        command.env("EXECUTION_ID", &invocation.execution_id).env("TRACE_ID", &invocation.trace_id);
        command.envs(variables);
        self.programs.start(command, stdin)
    }

    fn command(&self) -> Command {
        let (program, arguments) =
            self.words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let mut command = Command::new(program);
        command.args(arguments);
        for name in &self.hidden {
            command.env_remove(name);
        }
        command
    }
}
