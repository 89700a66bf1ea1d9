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
pub enum FunctionCommand {
    /// Create, replace or leave alone each function, so that it is as in the file
    Apply(apply::Apply),
    /// List the functions
    List,
    /// Show a function
    Get(get::GetFunction),
    /// Delete a function
    Delete(delete::Delete),
    /// Set the number of replicas of a function
    Scale(scale::Scale),
    /// Show why a function has its number of replicas
    Scaling(scaling::Scaling),
    /// Call a function with payload files and compare its outputs with the expected ones
    Test(test::Test),
}

impl FunctionCommand {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        match self {
            FunctionCommand::Apply(apply) => apply.run(session).await,
            FunctionCommand::List => list::run(session).await,
            FunctionCommand::Get(get) => get.run(session).await,
            FunctionCommand::Delete(delete) => delete.run(session).await,
            FunctionCommand::Scale(scale) => scale.run(session).await,
            FunctionCommand::Scaling(scaling) => scaling.run(session).await,
            FunctionCommand::Test(test) => test.run(session).await,
        }
    }
}
