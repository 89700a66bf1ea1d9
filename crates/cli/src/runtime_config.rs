//! `nanofaas runtime-config`: what can be changed while a server runs, on every shard or on none.

use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use nanofaas_web::client::Response;
use serde_json::{Map, Value, json};

use super::{
    client::{Session, parse, refused},
    failure::Failure,
    output::note,
};

const PATH: &str = "/v1/admin/runtime-config";

/// What can be done with a runtime configuration.
#[derive(Subcommand)]
pub enum RuntimeConfigCommand {
    /// Show the runtime configuration
    Get,
    /// Change some of its settings
    Set(SetRuntimeConfig),
}

/// Arguments of `runtime-config set`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    nanofaas runtime-config set rateMaxPerSecond=5000\n  \
    nanofaas runtime-config set syncQueueEnabled=true syncQueueMaxQueueWait=PT5S")]
pub struct SetRuntimeConfig {
    /// What to change, under the names that get shows
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = change)]
    changes: Vec<(String, Value)>,
    /// Change only this revision; by default the newest one
    #[arg(long, value_name = "N")]
    expected_revision: Option<u64>,
}

impl RuntimeConfigCommand {
    pub(super) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        match self {
            RuntimeConfigCommand::Get => get(session).await,
            RuntimeConfigCommand::Set(set) => set.run(session).await,
        }
    }
}

/// Shows the runtime configuration.
pub(super) async fn get(session: Session) -> Result<ExitCode, Failure> {
    let (snapshot, body) = current(&session).await?;
    match snapshot.as_object() {
        Some(fields) if !session.output.is_json() => session.output.fields(fields, &["revision"])?,
        _ => session.output.json(&body)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl SetRuntimeConfig {
    async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let expected = match self.expected_revision {
            Some(revision) => json!(revision),
            // A change that comes between this and the next request is not overwritten: the server refuses ours.
            None => current(&session).await?.0["revision"].clone(),
        };
        let mut patch: Map<String, Value> = self.changes.into_iter().collect();
        patch.insert("expectedRevision".to_owned(), expected);
        let response = session.api.tell(Method::PATCH, PATH, &Value::Object(patch)).await?;
        let (changed, body) = read(&response)?;
        for warning in changed["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            note(&format!("warning: {warning}"));
        }
        match changed["effectiveConfig"].as_object() {
            Some(fields) if !session.output.is_json() => session.output.fields(fields, &["revision"])?,
            _ => session.output.json(&body)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn current(session: &Session) -> Result<(Value, Bytes), Failure> {
    read(&session.api.ask(Method::GET, PATH).await?)
}

fn read(response: &Response) -> Result<(Value, Bytes), Failure> {
    match response.status {
        StatusCode::OK => Ok((parse(response)?, response.body.clone())),
        StatusCode::NOT_FOUND => Err(Failure::Failed(
            "the server does not tell: its admin API is off; start it with NANOFAAS_ADMIN_RUNTIME_CONFIG_ENABLED=true \
             or --set admin.runtime-config.enabled=true (dev has it on)"
                .to_owned(),
        )),
        _ => Err(refused(response)),
    }
}

/// `key=value`; a value that is no number and no truth value is a text.
fn change(text: &str) -> Result<(String, Value), String> {
    let Some((key, value)) = text.split_once('=') else { return Err("write it as KEY=VALUE".to_owned()) };
    let value = match serde_json::from_str(value) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::String(value.to_owned()),
    };
    Ok((key.trim().to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_type_that_they_look_like() {
        for (text, expected) in [
            ("a=5", json!(5)),
            ("a=true", json!(true)),
            ("a=PT5S", json!("PT5S")),
            ("a=", json!("")),
            ("a=b=c", json!("b=c")),
        ] {
            assert_eq!(change(text), Ok(("a".to_owned(), expected)), "{text}");
        }
        assert!(change("a").is_err());
    }
}
