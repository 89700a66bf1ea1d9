//! The one-shot watchdog: one execution from the environment, its result to the control plane.

use bytes::Bytes;
use hyper::{
    HeaderMap,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::{
    EXIT_CONFIGURATION, callback, file, http,
    invocation::{Failure, Invocation, Output, encoding, error_object, json_document},
    launcher::Launcher,
    options::{Mode, OneShot, Options},
    stdio,
};

/// The function failed, and the control plane knows.
const EXIT_FAILED: u8 = 1;

/// The control plane was not told.
const EXIT_NOT_DELIVERED: u8 = 2;

/// Runs the execution and posts its result. Gives the exit code.
pub async fn run(options: &Options, one_shot: &OneShot, launcher: Launcher) -> u8 {
    let payload = match payload_of(one_shot) {
        Ok(payload) => payload,
        Err(reason) => {
            tracing::error!(reason, "the request cannot be read");
            return EXIT_CONFIGURATION;
        }
    };
    let one_shot = &OneShot { payload, payload_file: None, ..one_shot.clone() };
    let result = execute(options, one_shot, launcher).await.and_then(|output| json_of(&output));
    let execution_id = &one_shot.execution_id;
    let completion = match &result {
        Ok(output) => format!(r#"{{"success":true,"output":{output},"error":null}}"#),
        Err(failure) => {
            tracing::error!(execution_id, reason = failure.without_output(), "execution failed");
            let error = error_object(failure.code(), &failure.to_string());
            format!(r#"{{"success":false,"output":null,"error":{error}}}"#)
        }
    };
    match callback::deliver(one_shot, completion.into()).await {
        Err(error) => {
            tracing::error!(execution_id, %error, "result not delivered");
            EXIT_NOT_DELIVERED
        }
        Ok(()) if result.is_err() => EXIT_FAILED,
        Ok(()) => 0,
    }
}

/// The request, from where it is. Whoever started this waits for nothing else, so a file is read at once.
fn payload_of(one_shot: &OneShot) -> Result<Bytes, String> {
    let Some(file) = &one_shot.payload_file else { return Ok(one_shot.payload.clone()) };
    let name = file.display();
    let payload = std::fs::read(file).map_err(|error| format!("INVOCATION_PAYLOAD_FILE {name}: {error}"))?;
    match json_document(&payload) {
        Ok(_) => Ok(payload.into()),
        Err(reason) => Err(format!("INVOCATION_PAYLOAD_FILE {name} is not JSON: {reason}")),
    }
}

async fn execute(options: &Options, one_shot: &OneShot, launcher: Launcher) -> Result<Output, Failure> {
    let invocation = invocation_of(options, one_shot);
    let time_up = sleep(options.timeout);
    let result = match options.mode {
        // Its limit begins when the program is ready.
        Mode::Http => return http::Server::new(launcher, options)?.run_once(invocation).await,
        Mode::Stdio => stdio::run(&launcher, &invocation, time_up).await,
        Mode::File => file::run(&launcher, &invocation, time_up).await,
    };
    result.unwrap_or(Err(Failure::TimedOut(options.timeout)))
}

fn invocation_of(options: &Options, one_shot: &OneShot) -> Invocation {
    Invocation {
        execution_id: one_shot.execution_id.clone(),
        trace_id: one_shot.trace_id.clone().unwrap_or_default(),
        headers: headers_of(one_shot),
        body: one_shot.payload.clone(),
        raw: false,
        deadline: Instant::now() + options.timeout,
    }
}

/// What a program of mode HTTP gets, the same as from the control plane.
fn headers_of(one_shot: &OneShot) -> HeaderMap {
    let attempt = one_shot.attempt.map(|attempt| attempt.to_string());
    let pairs = [
        ("x-execution-id", Some(&one_shot.execution_id)),
        ("x-trace-id", one_shot.trace_id.as_ref()),
        ("x-dispatch-attempt", attempt.as_ref()),
    ];
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in pairs {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

/// The output as the control plane would read it from an answer.
fn json_of(output: &Output) -> Result<Box<RawValue>, Failure> {
    let content_type = output.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let text = content_type.is_some_and(|content_type| content_type.starts_with("text/"));
    let json = super::invocation::is_json(&output.headers);
    if let Some(encoding) = encoding(&output.headers).filter(|_| !output.body.is_empty()) {
        return Err(Failure::Encoded(encoding));
    }
    match json_document(&output.body) {
        _ if output.body.is_empty() => json_string(None),
        Ok(document) if json => Ok(document.to_owned()),
        _ if text || json => json_string(Some(&output.body)),
        _ => Err(Failure::WrongType(content_type.unwrap_or_default().to_owned())),
    }
}

fn json_string(bytes: Option<&[u8]>) -> Result<Box<RawValue>, Failure> {
    let text = bytes.map(String::from_utf8_lossy);
    serde_json::value::to_raw_value(&text).map_err(|error| Failure::InvalidOutput(error.to_string()))
}

#[cfg(test)]
mod tests {
    use hyper::{StatusCode, header::CONTENT_ENCODING};

    use super::*;

    #[test]
    fn encoded_outputs_are_no_text() {
        for (encoding, body, expected) in [
            ("gzip", "1", None),
            ("identity, br", "1", None),
            ("gzip", "", Some("null")),
            ("Identity", "1", Some("1")),
            ("", "1", Some("1")),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))]);
            let output = Output { status: StatusCode::OK, headers, body: body.into() };
            let json = json_of(&output);
            assert_eq!(json.as_deref().map(RawValue::get).ok(), expected, "{encoding} {body}");
            assert!(json.is_ok() || json.is_err_and(|failure| failure.code() == "FUNCTION_BAD_OUTPUT"));
        }
    }

    #[test]
    fn outputs_are_read_as_the_control_plane_reads_answers() {
        for (content_type, body, expected) in [
            (Some("application/json"), r#"{"a": 1}"#, Some(r#"{"a": 1}"#)),
            (None, "[1]", Some("[1]")),
            (None, "oops", Some(r#""oops""#)),
            (Some("text/plain"), "42", Some(r#""42""#)),
            (Some("text/plain"), "", Some("null")),
            (Some("image/png"), "x", None),
        ] {
            let headers = content_type.map(|value| (CONTENT_TYPE, HeaderValue::from_static(value)));
            let output =
                Output { status: StatusCode::OK, headers: HeaderMap::from_iter(headers), body: body.into() };
            let json = json_of(&output).ok();
            assert_eq!(json.as_deref().map(RawValue::get), expected, "{content_type:?} {body}");
        }
    }
}
