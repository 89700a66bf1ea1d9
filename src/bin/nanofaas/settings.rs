//! The options that `serve`, `dev` and `config` share, and the reading of what the configuration is made of.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use nanofaas::config::{Base, Flag, Loaded, Problem, Problems, SettingOrigin, Sources, load};
use nanofaas_base::environment;
use nanofaas_cli::{Failure, note};

/// Options that set the server's configuration.
#[derive(Args)]
pub(super) struct Settings {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key of the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Port of the API listener
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// Port of the management listener
    #[arg(long, value_name = "PORT")]
    management_port: Option<String>,
    /// Directory of durable state
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Keep everything in memory
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ephemeral: Option<String>,
    /// Threads that serve
    #[arg(long, value_name = "N")]
    workers: Option<String>,
}

impl Settings {
    /// Reads file, environment and flags. Warnings go to stderr.
    pub(super) fn load(&self, base: Base) -> Result<Loaded, Failure> {
        let mut problems = Vec::new();
        let file = self.file(&mut problems);
        let flags = self.flags(&mut problems);
        // A variable that is not UTF-8 is none of ours.
        let variables: BTreeMap<String, String> = environment::vars()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
        match load(&Sources { base, file, environment: &variables, flags: &flags }) {
            Ok(loaded) if problems.is_empty() => {
                loaded.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
                Ok(loaded)
            }
            Ok(_) => Err(failure(&Problems(problems))),
            Err(Problems(more)) => {
                problems.extend(more);
                Err(failure(&Problems(problems)))
            }
        }
    }

    fn file(&self, problems: &mut Vec<Problem>) -> Option<(String, String)> {
        let path = self.config.as_ref()?;
        match std::fs::read_to_string(path) {
            Ok(text) => Some((path.display().to_string(), text)),
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                problems.push(Problem { origin: SettingOrigin::Flag("--config".to_owned()), message });
                None
            }
        }
    }

    fn flags(&self, problems: &mut Vec<Problem>) -> Vec<Flag> {
        let mut flags = Vec::new();
        for text in &self.set {
            match text.split_once('=') {
                Some((key, value)) => flags.push(flag("--set", key.trim(), value)),
                None => problems.push(Problem {
                    origin: SettingOrigin::Flag("--set".to_owned()),
                    message: format!("{text:?} is not KEY=VALUE"),
                }),
            }
        }
        let shortcuts = [
            ("--port", "server.port", &self.port),
            ("--management-port", "management.port", &self.management_port),
            ("--data-dir", "data-dir", &self.data_dir),
            ("--ephemeral", "ephemeral", &self.ephemeral),
            ("--workers", "workers", &self.workers),
        ];
        let given = shortcuts.into_iter().filter_map(|(name, key, value)| Some((name, key, value.as_ref()?)));
        flags.extend(given.map(|(name, key, value)| flag(name, key, value)));
        flags
    }
}

/// Every problem, one below the other.
fn failure(problems: &Problems) -> Failure {
    let count = match problems.0.len() {
        1 => "a problem".to_owned(),
        count => format!("{count} problems"),
    };
    let list: Vec<String> = problems.to_string().lines().map(|line| format!("  {line}")).collect();
    Failure::Configuration(format!("the configuration has {count}:\n{}", list.join("\n")))
}

fn flag(name: &str, key: &str, value: &str) -> Flag {
    Flag { name: name.to_owned(), key: key.to_owned(), value: value.to_owned() }
}
