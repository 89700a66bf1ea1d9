//! `nanofaas fn apply`: make a function what a file says.
//!
//! There is no way to change a function in place: replacing is deleting and registering. The server is asked to
//! register it first, whether the function is there or not: it says what is wrong with a file before anything is
//! deleted, also when nothing of what runs would change. When registering fails in spite of that, the old function
//! is registered again, so that nothing is taken down for good.

use std::{path::PathBuf, process::ExitCode};

use bytes::Bytes;
use clap::Args;
use hyper::{Method, StatusCode};
use nanofaas_web::client::Response;
use serde_json::{Map, Value};

use super::{
    compare::compare,
    spec::{self, Spec},
};
use crate::{
    client::{ApiClient, Session, function_path, parse, refused},
    failure::Failure,
    output::note,
};

/// How often the function may appear or vanish under our hands before we give up.
const RACES_MAX: usize = 3;

/// Arguments of `fn apply`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    nanofaas fn apply -f function.yaml\n  \
    cat one.yaml two.yaml | nanofaas fn apply -f -\n\n\
    A file may hold several functions, as YAML documents with --- between them. If the server rejects one of \
    them, the others are still applied, and the exit code is 1.")]
pub struct Apply {
    /// Function file, YAML or JSON; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Only warn of fields that are unknown, or without effect on this server
    #[arg(long)]
    no_strict: bool,
}

/// What was necessary.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    /// `created`, `unchanged` or `replaced`.
    pub(crate) result: &'static str,
    /// The server's FunctionResponse.
    pub(crate) body: Bytes,
}

/// One look at the server and what was done about it; `None` when somebody else was faster.
type Step = Result<Option<Applied>, Failure>;

impl Apply {
    pub(crate) async fn run(self, session: Session) -> Result<ExitCode, Failure> {
        let specs = spec::read_all(&self.file)?;
        let is_one = specs.len() == 1;
        let mut code = ExitCode::SUCCESS;
        for spec in &specs {
            match self.apply(&session, spec).await {
                Ok(()) => {}
                Err(Failure::Refused { code: refusal, message, details }) if !is_one => {
                    let failure = Failure::Refused { code: refusal, message, details };
                    note(&format!("error: {}: {failure}", spec.name));
                    code = ExitCode::FAILURE;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(code)
    }

    async fn apply(&self, session: &Session, spec: &Spec) -> Result<(), Failure> {
        let applied = apply(&session.api, spec, !self.no_strict).await.inspect_err(|failure| {
            if matches!(failure, Failure::Refused { details, .. } if details.iter().any(|line| is_in_vain(line))) {
                note("with --no-strict, fields that are unknown or without effect are only warned of");
            }
        })?;
        applied.warnings().iter().for_each(|warning| note(&format!("warning: {}: {warning}", spec.name)));
        let summary = format!("{} {}", spec.name, applied.result);
        if session.output.is_json() {
            note(&summary);
            session.output.json(&applied.body)?;
        } else {
            session.output.line(&summary)?;
        }
        Ok(())
    }
}

impl Applied {
    /// What the server warned of when it registered the function.
    fn warnings(&self) -> Vec<String> {
        #[derive(serde::Deserialize, Default)]
        struct Response {
            #[serde(default)]
            warnings: Vec<String>,
        }
        serde_json::from_slice::<Response>(&self.body).unwrap_or_default().warnings
    }
}

/// Whether a violation is one only because it was asked for with `strict`.
fn is_in_vain(detail: &str) -> bool {
    detail.contains(": unknown") || detail.contains(" has no effect")
}

/// Makes the function what the spec says. `strict`: nothing in it may be unknown or without effect.
pub(crate) async fn apply(api: &ApiClient, spec: &Spec, strict: bool) -> Result<Applied, Failure> {
    let path = function_path(&spec.name, "");
    for _ in 0..RACES_MAX {
        let registered = register(api, &spec.fields, strict).await?;
        match registered.status {
            StatusCode::CREATED => return Ok(Applied { result: "created", body: registered.body }),
            StatusCode::CONFLICT => {}
            _ => return Err(refused(&registered)),
        }
        let response = api.ask(Method::GET, &path).await?;
        let step = match response.status {
            StatusCode::NOT_FOUND => None,
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

async fn update(api: &ApiClient, spec: &Spec, running: &Map<String, Value>, body: Bytes) -> Step {
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

async fn replace(api: &ApiClient, spec: &Spec, running: &Map<String, Value>) -> Step {
    let removed = api.ask(Method::DELETE, &function_path(&spec.name, "")).await?;
    if !matches!(removed.status, StatusCode::NO_CONTENT | StatusCode::NOT_FOUND) {
        return Err(refused(&removed));
    }
    // The server has said before that nothing is wrong with it.
    let failure = match register(api, &spec.fields, false).await {
        Ok(response) if response.status == StatusCode::CREATED => {
            return Ok(Some(Applied { result: "replaced", body: response.body }));
        }
        Ok(response) if response.status == StatusCode::CONFLICT => return Ok(None),
        Ok(response) => refused(&response),
        Err(failure) => failure,
    };
    match register(api, running, false).await {
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

async fn register(api: &ApiClient, fields: &Map<String, Value>, strict: bool) -> Result<Response, Failure> {
    let path = if strict { "/v1/functions?strict=true" } else { "/v1/functions" };
    api.tell(Method::POST, path, &Value::Object(fields.clone())).await
}

/// The server's runtime configuration, when the admin API is on.
async fn server_defaults(api: &ApiClient) -> Result<Option<Map<String, Value>>, Failure> {
    let response = api.ask(Method::GET, "/v1/admin/runtime-config").await?;
    if response.status != StatusCode::OK {
        return Ok(None);
    }
    Ok(serde_json::from_slice::<Value>(&response.body).ok().and_then(|value| value.as_object().cloned()))
}
