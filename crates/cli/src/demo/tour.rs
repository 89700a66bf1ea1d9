//! What the server does beyond calling a function, on one of the examples and its real payload: work that is queued,
//! an attempt that fails and is followed by one that does not, a dead letter that is tried again, a function that is
//! woken from zero replicas.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use hyper::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::examples::Example;
use crate::{
    call::{CallRequest, envelope},
    client::{ApiClient, function_path, refused},
    execution::watch,
    failure::Failure,
    function::spec,
    json::equal,
    output::{Cell, CellStyle, Table, note},
    payload::{self, Payload},
};

/// One story and how it ended.
#[derive(Debug)]
pub(super) struct Story {
    title: &'static str,
    function: String,
    result: Result<StoryOutcome, String>,
}

/// What there is to tell of a story that went well.
#[derive(Debug)]
struct StoryOutcome {
    execution: String,
    attempts: u64,
    what: String,
}

impl Story {
    /// Whether it went as it should.
    pub(super) fn is_good(&self) -> bool {
        self.result.is_ok()
    }
}

/// The example that the stories are about, and its first payload.
struct Stage<'a> {
    api: &'a ApiClient,
    name: String,
    fields: Map<String, Value>,
    command: String,
    payload: Payload,
    folder: Folder,
}

/// A directory for the files by which functions are broken and fixed. Removed with everything in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Tells all stories, on the first example that is one program per call. None when there is no such example.
pub(super) async fn run(api: &ApiClient, examples: &[Example]) -> Result<Vec<Story>, Failure> {
    let Some(stage) = set(api, examples)? else {
        note("no example runs one program per call: nothing more to show");
        return Ok(Vec::new());
    };
    let mut stories = Vec::new();
    for (title, suffix) in [
        ("queued, result fetched later", "queued"),
        ("first attempt fails, retry succeeds", "flaky"),
        ("dead letter, fixed and replayed", "broken"),
        ("asleep, woken by a call", "asleep"),
    ] {
        let function = format!("{}-{suffix}", stage.name);
        // Before the server's log tells of failures that are meant.
        note(&format!("{function}: {title}"));
        let result = match suffix {
            "queued" => stage.queued(&function).await,
            "flaky" => stage.flaky(&function).await,
            "broken" => stage.broken(&function).await,
            _ => stage.asleep(&function).await,
        };
        let result = result.map_err(|failure| failure.to_string());
        note(&format!("{function}: {}", if result.is_ok() { "as expected" } else { "failed" }));
        stories.push(Story { title, function, result });
    }
    Ok(stories)
}

fn set<'a>(api: &'a ApiClient, examples: &[Example]) -> Result<Option<Stage<'a>>, Failure> {
    for example in examples {
        let Ok(spec) = spec::read(&example.function_file()) else { continue };
        let text = |name: &str| spec.fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let (Some("STDIO"), Some(command)) = (text("runtimeMode").as_deref(), text("runtimeCommand")) else {
            continue;
        };
        let Some(file) = payload::find(&example.payloads())?.into_iter().next() else { continue };
        let payload = payload::read(&file).map_err(Failure::Failed)?;
        let folder = std::env::temp_dir().join(format!("nanofaas-demo-{}", std::process::id()));
        let failed = |error| Failure::Failed(format!("cannot make {}: {error}", folder.display()));
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let folder = Folder(folder);
        return Ok(Some(Stage {
            api,
            name: spec.name.clone(),
            fields: spec.fields,
            command,
            payload,
            folder,
        }));
    }
    Ok(None)
}

impl Stage<'_> {
    async fn queued(&self, function: &str) -> Result<StoryOutcome, Failure> {
        self.register(function, &self.command, json!({})).await?;
        let id = self.enqueue(function).await?;
        let (status, _) = watch::until_end(self.api, &id).await?;
        let attempts = self.ended_as(&status, "success")?;
        Ok(StoryOutcome { execution: id, attempts, what: format!("answered 202, then {}", took(&status)) })
    }

    async fn flaky(&self, function: &str) -> Result<StoryOutcome, Failure> {
        let seen = self.folder.0.join("seen");
        let command = unless_there(&seen, "touch", "the first attempt always fails", &self.command);
        self.register(function, &command, json!({ "maxRetries": 3, "retryBackoffMs": 20 })).await?;
        let id = self.enqueue(function).await?;
        let (status, _) = watch::until_end(self.api, &id).await?;
        let attempts = self.ended_as(&status, "success")?;
        if attempts != 2 {
            return Err(Failure::Failed(format!("it took {attempts} attempts instead of 2")));
        }
        let last = status["lastError"]["message"].as_str().unwrap_or_default();
        Ok(StoryOutcome {
            execution: id,
            attempts,
            what: format!("failed with \"{}\", then succeeded", last.trim()),
        })
    }

    async fn broken(&self, function: &str) -> Result<StoryOutcome, Failure> {
        let fixed = self.folder.0.join("fixed");
        let command = unless_there(&fixed, "true", "not fixed yet", &self.command);
        self.register(function, &command, json!({ "maxRetries": 1 })).await?;
        let id = self.enqueue(function).await?;
        let (status, _) = watch::until_end(self.api, &id).await?;
        self.ended_as(&status, "error")?;
        let (letters, _) = self.api.get(&function_path(function, "/dead-letters")).await?;
        if letters[0]["executionId"] != json!(id) {
            return Err(Failure::Failed("it is not among the dead letters".to_owned()));
        }
        std::fs::write(&fixed, "").map_err(|error| Failure::Failed(format!("cannot fix it: {error}")))?;
        let path = function_path(function, &format!("/dead-letters/{id}:replay"));
        let response = self.api.ask(Method::POST, &path).await?;
        if response.status != StatusCode::ACCEPTED {
            return Err(refused(&response));
        }
        let (status, _) = watch::until_end(self.api, &id).await?;
        let attempts = self.ended_as(&status, "success")?;
        Ok(StoryOutcome {
            execution: id,
            attempts,
            what: "dead letter, fixed, replayed, succeeded".to_owned(),
        })
    }

    async fn asleep(&self, function: &str) -> Result<StoryOutcome, Failure> {
        let scaling = json!({ "strategy": "INTERNAL", "minReplicas": 0, "maxReplicas": 2 });
        self.register(function, &self.command, json!({ "scalingConfig": scaling })).await?;
        let (replicas, _) = self.api.get(&function_path(function, "/replicas")).await?;
        if replicas["ready"] != 0 {
            return Err(Failure::Failed(format!("it is not asleep: {replicas}")));
        }
        let started = Instant::now();
        let outcome = self.api.invoke(self.call(function)).await?;
        let ms = started.elapsed().as_millis();
        let envelope: Value = serde_json::from_slice(&outcome.body).unwrap_or(Value::Null);
        self.ended_as(&envelope, "success")?;
        let id = envelope["executionId"].as_str().unwrap_or_default().to_owned();
        let (scaling, _) = self.api.get(&function_path(function, "/scaling")).await?;
        let reason = scaling["reason"].as_str().unwrap_or_default();
        Ok(StoryOutcome {
            execution: id,
            attempts: 1,
            what: format!("answered after {ms} ms; autoscaler: \"{reason}\""),
        })
    }

    /// Registers the example's program under another name.
    async fn register(&self, function: &str, command: &str, changes: Value) -> Result<(), Failure> {
        let mut fields = self.fields.clone();
        fields.insert("name".to_owned(), function.into());
        fields.insert("runtimeCommand".to_owned(), command.into());
        fields.extend(changes.as_object().cloned().unwrap_or_default());
        let response = self.api.tell(Method::POST, "/v1/functions", &Value::Object(fields)).await?;
        if response.status == StatusCode::CREATED { Ok(()) } else { Err(refused(&response)) }
    }

    async fn enqueue(&self, function: &str) -> Result<String, Failure> {
        Ok(self.api.enqueue(self.call(function)).await?.id)
    }

    /// The example's first payload.
    fn call<'a>(&'a self, function: &'a str) -> CallRequest<'a> {
        CallRequest {
            function,
            body: envelope(&self.payload.input),
            headers: HeaderMap::new(),
            timeout_ms: None,
        }
    }

    /// Checks how an execution ended, and its output. Returns its attempts.
    fn ended_as(&self, status: &Value, wanted: &str) -> Result<u64, Failure> {
        if status["status"] != wanted {
            let error = status["error"]["message"].as_str().unwrap_or_default();
            return Err(Failure::Failed(format!("it ended as {}: {error}", status["status"])));
        }
        if wanted == "success" && !equal(&self.payload.expected, &status["output"]) {
            return Err(Failure::Failed("the output is not the expected one".to_owned()));
        }
        Ok(status["attempt"].as_u64().unwrap_or(1))
    }
}

/// A command that fails with a complaint while a file is not there, and does `then` about it.
fn unless_there(file: &Path, then: &str, complaint: &str, command: &str) -> String {
    let quote = |text: &str| shlex::try_quote(text).map(String::from).unwrap_or_default();
    let file = quote(&file.display().to_string());
    let script = format!(
        "test -e {file} || {{ {then} {file}; echo {} >&2; exit 1; }}; exec {command}",
        quote(complaint)
    );
    format!("sh -c {}", quote(&script))
}

fn took(status: &Value) -> String {
    let ms = |field: &str| status[field].as_u64().unwrap_or_default();
    format!("ran for {} ms", ms("finishedAtMillis").saturating_sub(ms("startedAtMillis")))
}

/// The table of all stories.
pub(super) fn table(stories: &[Story]) -> Table {
    let mut table = Table::new(&["STORY", "FUNCTION", "EXECUTION", "ATTEMPTS", "EXPECTED", "WHAT HAPPENED"]);
    for story in stories {
        let (execution, attempts, verdict, look, what) = match &story.result {
            Ok(told) => {
                (told.execution.clone(), told.attempts.to_string(), "ok", CellStyle::Good, told.what.clone())
            }
            Err(reason) => ("-".to_owned(), "-".to_owned(), "failed", CellStyle::Bad, reason.clone()),
        };
        table.row(vec![
            story.title.into(),
            story.function.clone().into(),
            execution.into(),
            attempts.into(),
            Cell::new(verdict, look),
            what.into(),
        ]);
    }
    table
}
