//! `nanofaas invoke` and `nanofaas exec`.

use serde_json::json;

use super::{
    error,
    fake::Fake,
    program::{Folder, program, run_with_input},
    with_server,
};

#[test]
fn invoke_prints_the_output_and_sends_the_input_as_it_is() {
    let path = "POST /v1/functions/f:invoke";
    let body = r#"{"executionId":"x","status":"success","output":{"n": 1.50},"error":null}"#;
    let answer = || vec![(path, 200, body.to_owned())];
    let input = "{\"big\": 123456789012345678901234567890}";
    let flags = ["--timeout-ms", "1500", "--idempotency-key", "k1", "--trace-id", "t1"];
    let mut arguments = vec!["invoke", "f", "-d", input];
    arguments.extend(flags);
    let (run, fake) = with_server(answer(), &arguments);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "{\"n\": 1.50}\n", ""));
    let request = &fake.requests()[0];
    assert_eq!(request.body, format!("{{\"input\":{input}}}"));
    for header in
        ["x-timeout-ms: 1500", "idempotency-key: k1", "x-trace-id: t1", "content-type: application/json"]
    {
        assert!(request.has(header), "{header} {request:?}");
    }
    let (run, _) = with_server(answer(), &["invoke", "f", "-d", "-1", "-o", "json"]);
    assert_eq!((run.code, run.stdout), (0, format!("{body}\n")));

    let folder = Folder::new();
    let file = folder.write("input.json", "[1,\n2]\n");
    let (_, fake) = with_server(answer(), &["invoke", "f", "-d", &format!("@{file}")]);
    assert_eq!(fake.requests()[0].body, "{\"input\":[1,\n2]}");
    let fake = Fake::start(answer());
    let run =
        run_with_input(program(&["invoke", "f", "-d", "@-"]).args(["--endpoint", &fake.endpoint]), "\"in\"");
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(fake.requests()[0].body, "{\"input\":\"in\"}");

    let file = folder.write("input.txt", "hello");
    let by_file = format!("@{file}");
    for (data, code) in
        [("hello", 2), ("", 2), ("{\"a\":", 2), ("@/does/not/exist", 1), (by_file.as_str(), 1)]
    {
        let (run, _) = with_server(vec![], &["invoke", "f", "-d", data]);
        assert_eq!(run.code, code, "{data:?} {run:?}");
    }
}

#[test]
fn raw_data_goes_out_and_comes_back_as_it_is() {
    let path = "POST /v1/functions/f:invoke";
    let folder = Folder::new();
    let file = folder.write("data.txt", "a, b\n");
    let data = format!("@{file}");
    let (run, fake) = with_server(
        vec![(path, 200, "no JSON".to_owned())],
        &["invoke", "f", "-d", &data, "--raw", "--content-type", "text/csv", "--timeout-ms", "5"],
    );
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "no JSON", ""), "{run:?}");
    let request = &fake.requests()[0];
    assert_eq!(request.body, "a, b\n");
    assert!(request.has("content-type: text/csv") && request.has("x-timeout-ms: 5"), "{request:?}");
    let (_, fake) = with_server(vec![(path, 200, String::new())], &["invoke", "f", "-d", "x", "--raw"]);
    assert!(fake.requests()[0].has("content-type: application/octet-stream"));
    let accepted = json!({"executionId": "x", "status": "queued", "output": null, "error": null}).to_string();
    let (run, fake) = with_server(
        vec![("POST /v1/functions/f:enqueue", 202, accepted)],
        &["enqueue", "f", "-d", "x", "--raw"],
    );
    assert_eq!((run.code, fake.requests()[0].body.as_str()), (0, "x"));
    for wrong in [
        &["invoke", "f", "-d", "x", "--content-type", "text/csv"][..],
        &["invoke", "f", "-d", "x", "--raw", "-o", "json"],
        &["invoke", "f", "-d", "1", "--raw", "--content-type", "application/json; charset=utf-8"],
        &["invoke", "f", "-d", "x", "--raw", "--content-type", "a\nb"],
    ] {
        let (run, _) = with_server(vec![], wrong);
        assert_eq!(run.code, 2, "{wrong:?} {run:?}");
    }
}

#[test]
fn invoke_fails_when_the_function_does() {
    let path = "POST /v1/functions/f:invoke";
    let envelope = |status: &str, code: &str, message: &str| {
        json!({"executionId": "x", "status": status, "output": null, "error": {"code": code, "message": message}})
            .to_string()
    };
    for (status, body, stderr) in [
        (
            200,
            envelope("error", "FUNCTION_ERROR", "boom"),
            "error: boom (FUNCTION_ERROR)\nexecution x; see: nanofaas exec get x\n",
        ),
        (
            408,
            envelope("timeout", "TIMEOUT", "no answer in 30000 ms"),
            "error: no answer in 30000 ms (TIMEOUT)\nexecution x; see: nanofaas exec get x\n",
        ),
        (429, error("QUEUE_FULL", "the queue of f is full"), "error: the queue of f is full (QUEUE_FULL)\n"),
        (404, error("NOT_FOUND", "there is no function f"), "error: there is no function f (NOT_FOUND)\n"),
        (
            408,
            "upstream timeout".to_owned(),
            "error: the server answered Request Timeout: upstream timeout (HTTP 408)\n",
        ),
    ] {
        let (run, _) = with_server(vec![(path, status, body)], &["invoke", "f", "-d", "1"]);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (1, "", stderr));
    }
    let body = envelope("error", "FUNCTION_ERROR", "boom");
    let (run, _) = with_server(vec![(path, 200, body.clone())], &["invoke", "f", "-d", "1", "-o", "json"]);
    assert_eq!((run.code, run.stdout), (1, format!("{body}\n")));
}

#[test]
fn exec_get_shows_an_execution() {
    let status = |status: &str| {
        json!({"executionId": "x-1", "functionName": "f", "status": status, "attempt": 2, "output": {"a": 1},
            "error": null, "lastError": null, "coldStart": null})
    };
    let path = "GET /v1/executions/x-1";
    for (state, code) in [("success", 0), ("running", 0), ("queued", 0), ("error", 1), ("timeout", 1)] {
        let (run, _) = with_server(vec![(path, 200, status(state).to_string())], &["exec", "get", "x-1"]);
        assert_eq!(run.code, code, "{run:?}");
        let expected = format!(
            "executionId   x-1\nfunctionName  f\nstatus        {state}\nattempt       2\noutput        {{\"a\":1}}\n"
        );
        assert_eq!(run.stdout, expected);
    }
    let body = status("success").to_string();
    let (run, _) = with_server(vec![(path, 200, body.clone())], &["exec", "get", "x-1", "-o", "json"]);
    assert_eq!(run.stdout, format!("{body}\n"));
    let (run, _) =
        with_server(vec![(path, 404, error("NOT_FOUND", "no execution x-1"))], &["exec", "get", "x-1"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, "error: no execution x-1 (NOT_FOUND)\n"));
}
