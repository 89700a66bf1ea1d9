//! `nanofaas completions`: the completion script of a shell.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{failure::Failure, output::Output};

/// Arguments of `completions`.
#[derive(Args)]
pub(super) struct Completions {
    /// Shell to write the script for
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, output: Output) -> Result<ExitCode, Failure> {
        // Into memory first: the generator panics when its writer fails, and stdout may be a closed pipe.
        let mut script = Vec::new();
        let mut command = super::Arguments::command();
        clap_complete::generate(self.shell, &mut command, "nanofaas", &mut script);
        output.text(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
