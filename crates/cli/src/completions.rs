//! `nanofaas completions`: the completion script of a shell.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::{failure::Failure, output::Output};

/// Arguments of `completions`.
#[derive(Args)]
pub struct Completions {
    /// Shell to write the script for
    shell: Shell,
}

impl Completions {
    /// `program` is what the script completes.
    pub(super) fn run(self, mut program: clap::Command, output: Output) -> Result<ExitCode, Failure> {
        // Into memory first: the generator panics when its writer fails, and stdout may be a closed pipe.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "nanofaas", &mut script);
        output.text(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
