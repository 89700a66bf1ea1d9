//! `nanofaas fn`: register, look at, scale, test and delete functions.

pub(super) mod apply;
mod compare;
mod delete;
mod get;
mod list;
mod scale;
mod scaling;
pub(super) mod spec;
mod test;

use std::process::ExitCode;

use clap::Subcommand;

use super::{client::Session, failure::Failure};

/// What can be done with functions.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a function what a file says: creates it, replaces it, or leaves it alone
    Apply(apply::Apply),
    /// List the functions
    List,
    /// Show a function
    Get(get::Get),
    /// Delete a function
    Delete(delete::Delete),
    /// Set the number of replicas of a function
    Scale(scale::Scale),
    /// Show why a function has as many replicas as it has
    Scaling(scaling::Scaling),
    /// Call a function with payload files and compare its outputs with the expected ones
    Test(test::Test),
}

impl Command {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        match self {
            Command::Apply(apply) => apply.run(session).await,
            Command::List => list::run(session).await,
            Command::Get(get) => get.run(session).await,
            Command::Delete(delete) => delete.run(session).await,
            Command::Scale(scale) => scale.run(session).await,
            Command::Scaling(scaling) => scaling.run(session).await,
            Command::Test(test) => test.run(session).await,
        }
    }
}
