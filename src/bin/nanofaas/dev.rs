//! `nanofaas dev`: a server to develop with.

use std::process::ExitCode;

use clap::Args;
use nanofaas::{
    config::{BackendKind, Base, Config},
    server::Listening,
};
use nanofaas_cli::{DEFAULT_ENDPOINT, Failure, Output, OutputFormat};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::{serve, settings::Settings};

/// Arguments of `dev`.
#[derive(Args)]
pub(super) struct Dev {
    #[command(flatten)]
    settings: Settings,
    /// Process id of the parent to end with; how `demo` leaves nothing behind even when it is killed
    #[arg(long, hide = true, value_name = "PID")]
    end_with: Option<i32>,
}

impl Dev {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let loaded = self.settings.load(Base::Dev)?;
        if let Some(parent) = self.end_with {
            end_with(parent)?;
        }
        let config = loaded.config.clone();
        // The one that it ends with has its own words for people.
        let is_alone = self.end_with.is_none();
        serve::start(loaded.config, |listening| {
            if is_alone {
                // Nobody has to read it.
                let _ = Output::stdout(OutputFormat::Table).line(&greeting(&config, listening));
            }
        })
    }
}

/// What is on and what to do next, in six lines.
fn greeting(config: &Config, listening: &Listening) -> String {
    let endpoint = format!("http://{}", listening.api);
    let modules = [
        ("local processes", config.deployment.backends_on().contains(&BackendKind::Process)),
        ("async queue", config.async_queue.enabled),
        ("sync queue", config.sync_queue.enabled),
        ("autoscaler", config.autoscaler.enabled),
        ("admin API", config.admin.runtime_config_enabled),
    ];
    let on = modules.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let data = if config.ephemeral { "in memory".to_owned() } else { config.data_dir.display().to_string() };
    let first = if endpoint == DEFAULT_ENDPOINT {
        "Next, in a second terminal:".to_owned()
    } else {
        format!("Next, in a second terminal: export NANOFAAS_ENDPOINT={endpoint}")
    };
    format!(
        "nanofaas dev: API {endpoint}, metrics http://{}/actuator/prometheus\nOn: {on}. Data: {data}\n{first}\n  \
         nanofaas fn apply -f function.yaml\n  nanofaas invoke NAME -d '{{\"name\":\"world\"}}'\nCtrl-C ends it.",
        listening.management
    )
}

/// Asks the kernel for SIGTERM when the parent dies.
fn end_with(parent: i32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::Failed(format!("cannot bind to the parent process: {error}")))?;
    // It may have died before the request: then nobody would ever send the signal.
    match getppid().map(|pid| pid.as_raw_nonzero().get()) {
        Some(pid) if pid == parent => Ok(()),
        _ => Err(Failure::Failed("the parent process is gone".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_is_six_lines() {
        let at = |port| Listening {
            api: ([127, 0, 0, 1], port).into(),
            management: ([127, 0, 0, 1], 8081).into(),
        };
        let text = greeting(&Config::dev(), &at(8080));
        assert_eq!(text.lines().count(), 6, "{text}");
        for part in [
            "API http://127.0.0.1:8080,",
            "autoscaler",
            "Data: .nanofaas\n",
            "fn apply -f",
            "second terminal:\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let elsewhere = greeting(&Config { ephemeral: true, ..Config::dev() }, &at(9090));
        assert!(elsewhere.contains("export NANOFAAS_ENDPOINT=http://127.0.0.1:9090\n"), "{elsewhere}");
        assert!(elsewhere.contains("Data: in memory"), "{elsewhere}");
    }
}
