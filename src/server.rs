//! The server: not built yet.

use std::process::ExitCode;

use crate::config::Config;

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no server in this build.
    #[error("this build has no server yet")]
    Missing,
}

/// Serves until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub fn run(config: Config) -> Result<ExitCode, ServeError> {
    tracing::debug!(api = %config.api_address(), "would serve");
    Err(ServeError::Missing)
}
