//! `loadtest compare`: runs side by side.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use super::failure::Failure;
use crate::report::{compare, html};

/// Put runs side by side.
#[derive(Args)]
pub(super) struct Compare {
    /// Directories that `loadtest run --out` wrote, or the summary.json in them
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Also write a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Compare {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let runs = self.runs.iter().map(|path| compare::read(path)).collect::<Result<Vec<_>, _>>()?;
        write!(io::stdout(), "{}", compare::table(&runs))?;
        if let Some(path) = &self.html {
            let page = html::comparison(&runs);
            fs::write(path, page)
                .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
