//! `nanofaas fn apply`: make a function what a file says.
//!
//! There is no way to change a function in place: replacing is deleting and registering. When the second half is
//! refused, the old function is registered again, so that a mistake in a file takes nothing down for good.

use std::{path::PathBuf, process::ExitCode};

use bytes::Bytes;
use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::{Map, Value};

use super::{
    compare::compare,
    spec::{self, Spec},
};
use crate::cli::{
    client::{Api, Session, function_path, parse, refused},
    failure::Failure,
    output::note,
};

/// How often the function may appear or vanish under our hands before we give up.
const RACES_MAX: usize = 3;

/// Arguments of `fn apply`.
#[derive(Args)]
pub(in crate::cli) struct Apply {
    /// Function file, YAML or JSON; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

/// What was necessary.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Applied {
    /// `created`, `unchanged` or `replaced`.
    pub(in crate::cli) result: &'static str,
    /// The server's FunctionResponse.
    pub(in crate::cli) body: Bytes,
}

/// One look at the server and what was done about it; `None` when somebody else was faster.
type Step = Result<Option<Applied>, Failure>;

impl Apply {
    pub(in crate::cli) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let spec = spec::read(&self.file)?;
        let applied = apply(&session.api, &spec).await?;
        let summary = format!("{} {}", spec.name, applied.result);
        if session.output.is_json() {
            note(&summary);
            session.output.json(&applied.body)?;
        } else {
            session.output.line(&summary)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes the function what the spec says.
pub(in crate::cli) async fn apply(api: &Api, spec: &Spec) -> Result<Applied, Failure> {
    let path = function_path(&spec.name, "");
    for _ in 0..RACES_MAX {
        let response = api.ask(Method::GET, &path).await?;
        let step = match response.status {
            StatusCode::NOT_FOUND => create(api, spec).await?,
            StatusCode::OK => {
                let running = parse(&response)?.as_object().cloned().unwrap_or_default();
                update(api, spec, &running, response.body).await?
            }
            _ => return Err(refused(&response)),
        };
        if let Some(applied) = step {
            return Ok(applied);
        }
    }
    Err(Failure::Failed(format!("{} keeps changing; somebody else applies it at the same time", spec.name)))
}

async fn create(api: &Api, spec: &Spec) -> Step {
    let response = register(api, &spec.fields).await?;
    match response.status {
        StatusCode::CREATED => Ok(Some(Applied { result: "created", body: response.body })),
        StatusCode::CONFLICT => Ok(None),
        _ => Err(refused(&response)),
    }
}

async fn update(api: &Api, spec: &Spec, running: &Map<String, Value>, body: Bytes) -> Step {
    let server = server_defaults(api).await?;
    let comparison = compare(&spec.fields, running, server.as_ref());
    if comparison.changed.is_empty() {
        if !comparison.guessed.is_empty() {
            let fields = comparison.guessed.join(", ");
            note(&format!("{fields}: not in the file; what runs is taken for the server's default"));
        }
        return Ok(Some(Applied { result: "unchanged", body }));
    }
    note(&format!("changed: {}", comparison.changed.join(", ")));
    replace(api, spec, running).await
}

async fn replace(api: &Api, spec: &Spec, running: &Map<String, Value>) -> Step {
    let removed = api.ask(Method::DELETE, &function_path(&spec.name, "")).await?;
    if !matches!(removed.status, StatusCode::NO_CONTENT | StatusCode::NOT_FOUND) {
        return Err(refused(&removed));
    }
    let failure = match register(api, &spec.fields).await {
        Ok(response) if response.status == StatusCode::CREATED => {
            return Ok(Some(Applied { result: "replaced", body: response.body }));
        }
        Ok(response) if response.status == StatusCode::CONFLICT => return Ok(None),
        Ok(response) => refused(&response),
        Err(failure) => failure,
    };
    match register(api, running).await {
        Ok(restored) if restored.status == StatusCode::CREATED => {
            note(&format!("{}: the new version was refused; the old one is back", spec.name));
        }
        _ => note(&format!(
            "{}: the new version was refused, and the old one could not be put back",
            spec.name
        )),
    }
    Err(failure)
}

async fn register(
    api: &Api,
    fields: &Map<String, Value>,
) -> Result<crate::dispatch::client::Response, Failure> {
    api.tell(Method::POST, "/v1/functions", &Value::Object(fields.clone())).await
}

/// The server's runtime configuration, when the admin API is on.
async fn server_defaults(api: &Api) -> Result<Option<Map<String, Value>>, Failure> {
    let response = api.ask(Method::GET, "/v1/admin/runtime-config").await?;
    if response.status != StatusCode::OK {
        return Ok(None);
    }
    Ok(serde_json::from_slice::<Value>(&response.body).ok().and_then(|value| value.as_object().cloned()))
}
