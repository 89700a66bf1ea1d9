//! `nanofaas config`: the effective configuration with the origin of every value. Secrets are masked. `--running` asks a
//! server instead for what can be changed while it runs, as `nanofaas runtime-config get` does.

use std::process::ExitCode;

use clap::Args;
use nanofaas::config::{Base, Loaded, SettingOrigin, keys};
use nanofaas_cli::{Cell, CellStyle, Failure, Output, Table};
use serde_json::{Map, Value, json};

use super::settings::Settings;

/// Arguments of `config`.
#[derive(Args)]
pub(super) struct Show {
    /// Show the configuration of `nanofaas dev`
    #[arg(long)]
    dev: bool,
    /// Ask a running server for the settings that can change while it runs
    #[arg(long, conflicts_with_all = ["dev", "config", "set", "port", "management_port", "data_dir", "ephemeral", "workers"])]
    running: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Show {
    /// A server is to be asked.
    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    pub(super) fn run(self, output: Output) -> Result<ExitCode, Failure> {
        let loaded = self.settings.load(if self.dev { Base::Dev } else { Base::Serve })?;
        if output.is_json() {
            output.json(object(&loaded).to_string().as_bytes())?;
        } else {
            output.table(&table(&loaded))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn object(loaded: &Loaded) -> Value {
    let members = keys().iter().zip(&loaded.origins).map(|(key, origin)| {
        let value = json!({ "value": key.json(&loaded.config), "origin": origin.to_string() });
        (key.name.clone(), value)
    });
    Value::Object(members.collect::<Map<_, _>>())
}

fn table(loaded: &Loaded) -> Table {
    let mut table = Table::new(&["KEY", "VALUE", "ORIGIN", "MEANING"]);
    for (key, origin) in keys().iter().zip(&loaded.origins) {
        let value = key.show(&loaded.config);
        let look = if *origin == SettingOrigin::Default { CellStyle::Faint } else { CellStyle::Good };
        table.row(vec![
            key.name.clone().into(),
            value.map_or(Cell::new("(unset)", CellStyle::Faint), Cell::from),
            Cell::new(origin.to_string(), look),
            Cell::new(key.doc, CellStyle::Faint),
        ]);
    }
    table
}
