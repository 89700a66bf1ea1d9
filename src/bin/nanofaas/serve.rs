//! `nanofaas serve`: the server.

use std::process::ExitCode;

use clap::Args;
use nanofaas::{
    config::{Base, Config},
    server::{self, Listening},
    telemetry,
};
use nanofaas_cli::Failure;

use super::settings::Settings;

/// Arguments of `serve`.
#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Settings,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        start(self.settings.load(Base::Serve)?.config, |_| ())
    }
}

/// Serves until the end; shared with `dev`.
pub(super) fn start(config: Config, serving: impl FnOnce(&Listening)) -> Result<ExitCode, Failure> {
    telemetry::log::init();
    server::run(config, serving).map_err(|error| Failure::Failed(error.to_string()))
}
