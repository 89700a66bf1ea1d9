//! The command line as a user meets it: exit codes, messages, output. The server is a fake one.

#[path = "cli/fake.rs"]
mod fake;
#[path = "cli/program.rs"]
mod program;

use fake::{Exchange, Fake};
use program::{Folder, Run, program, run, run_with_input};
use serde_json::{Value, json};

/// Runs a command against a server that knows these answers and expects each to be asked for once.
fn with_server(script: Vec<Exchange>, arguments: &[&str]) -> (Run, Fake) {
    let fake = Fake::start(script);
    let run = run(program(arguments).args(["--endpoint", &fake.endpoint]));
    fake.assert_done();
    (run, fake)
}

fn error(code: &str, message: &str) -> String {
    json!({ "error": code, "message": message }).to_string()
}

/// A resolved function as a server answers it.
fn function(changes: Value) -> Value {
    let mut function = json!({
        "name": "f", "image": "i", "command": [], "env": {}, "timeoutMs": 30000, "concurrency": 4,
        "queueSize": 100, "maxRetries": 3, "retryBackoffMs": 0, "endpointUrl": "http://h:1/invoke",
        "executionMode": "POOL", "requestedExecutionMode": "POOL", "effectiveExecutionMode": "POOL",
        "runtimeMode": "HTTP"
    });
    let changes = changes.as_object().expect("an object").clone();
    function.as_object_mut().expect("an object").extend(changes);
    function
}

const FILE: &str = "name: f\nimage: i\nexecutionMode: POOL\nendpointUrl: http://h:1\n\
                    catalog: {family: x}\nx-cli: {build: {context: .}}\n";

// --- arguments and configuration ---------------------------------------------------------------------------

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &[][..],
        &["nonsense"],
        &["fn"],
        &["fn", "apply"],
        &["fn", "scale", "f", "many"],
        &["fn", "scale", "f", "-1"],
        &["fn", "test", "f"],
        &["invoke", "f"],
        &["invoke", "f", "-d", "1", "--timeout-ms", "0"],
        &["invoke", "f", "-d", "1", "--trace-id", "a\nb"],
        &["fn", "list", "-o", "xml"],
        &["fn", "list", "--endpoint", "localhost:8080"],
    ] {
        let run = run(&mut program(arguments));
        assert_eq!(run.code, 2, "{arguments:?} {run:?}");
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    for arguments in [&["--help"][..], &["--version"], &["fn", "--help"], &["completions", "zsh"]] {
        let run = run(&mut program(arguments));
        assert_eq!(run.code, 0, "{arguments:?} {run:?}");
        assert!(!run.stdout.is_empty() && !run.stdout.contains("__exec [OPTIONS]"), "{arguments:?}");
    }
}

#[test]
fn a_wrong_configuration_is_exit_code_64_and_tells_everything() {
    let folder = Folder::new();
    let file = folder.write("nanofaas.toml", "[server]\nprot = 1\n");
    for command in ["serve", "dev", "config"] {
        let run = run(program(&[command, "--config", &file, "--workers", "none", "--set", "x"])
            .env("NANOFAAS_RATE_MAX_PER_SECOND", "-1"));
        assert_eq!(run.code, 64, "{run:?}");
        for expected in [
            &format!("{file}:2: unknown key \"server.prot\"; did you mean \"server.port\"?"),
            "--workers: workers: \"none\" is not a whole number",
            "--set: \"x\" is not KEY=VALUE",
            "NANOFAAS_RATE_MAX_PER_SECOND: rate.max-per-second: \"-1\" is not a whole number",
        ] {
            assert!(run.stderr.contains(expected), "{expected}\n{}", run.stderr);
        }
    }
    let missing = run(&mut program(&["config", "--config", "/does/not/exist.toml"]));
    assert_eq!(missing.code, 64);
    assert!(missing.stderr.contains("--config: cannot read /does/not/exist.toml"), "{missing:?}");
}

#[test]
fn config_prints_values_and_origins() {
    let folder = Folder::new();
    let file =
        folder.write("n.toml", "[delivery]\nsecret = 'open sesame'\n[limits]\nrequest-bytes = '2MiB'\n");
    let flags = ["--config", &file, "--port=9999", "--ephemeral", "--set", "sync-queue.max-queue-wait=500"];
    let environment = [("HOME", "/home/a"), ("SYNC_QUEUE_ENABLED", "true"), ("NANOFAAS_WORKER", "3")];

    let json = run(program(&["config", "-o", "json"]).args(flags).envs(environment));
    assert_eq!(json.code, 0, "{json:?}");
    let values: Value = serde_json::from_str(&json.stdout).expect("JSON");
    for (key, value, origin) in [
        ("server.port", json!(9999), "--port"),
        ("ephemeral", json!(true), "--ephemeral"),
        ("limits.request-bytes", json!(2_097_152), &format!("{file}:4")),
        ("sync-queue.enabled", json!(true), "SYNC_QUEUE_ENABLED"),
        ("sync-queue.max-queue-wait", json!("500ms"), "--set"),
        ("delivery.secret", json!("********"), &format!("{file}:2")),
        ("data-dir", json!("/home/a/.local/state/nanofaas"), "default"),
        ("k8s.namespace", Value::Null, "default"),
    ] {
        assert_eq!(values[key], json!({ "value": value, "origin": origin }), "{key}");
    }
    assert!(json.stderr.contains("NANOFAAS_WORKER: is not a setting"), "{}", json.stderr);

    let table = run(program(&["config"]).args(flags).envs(environment));
    assert!(table.stdout.lines().any(|line| line.starts_with("server.port ") && line.contains("--port")));
    assert!(!table.stdout.contains("sesame") && !json.stdout.contains("sesame"));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let fake = Fake::start(vec![("GET /v1/functions", 200, "[]".to_owned())]);
    for arguments in [
        &["config"][..],
        &["config", "-o", "json"],
        &["completions", "bash"],
        &["--help"],
        &["fn", "list", "--endpoint", &fake.endpoint],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = program(arguments).stdout(writer).output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?} {stderr}");
        assert_eq!(stderr, "", "{arguments:?}");
    }
}

// --- the connection ----------------------------------------------------------------------------------------

#[test]
fn the_endpoint_comes_from_flag_environment_or_context() {
    let list = || vec![("GET /v1/functions", 200, "[]".to_owned())];
    let folder = Folder::new();
    let (by_flag, by_variable, by_context) = (Fake::start(list()), Fake::start(list()), Fake::start(list()));
    let text = format!("current-context = 'here'\n[contexts.here]\nendpoint = '{}/'\n", by_context.endpoint);
    folder.write(".config/nanofaas/config.toml", &text);

    let command = || {
        let mut command = program(&["fn", "list"]);
        command.env("HOME", folder.path());
        command
    };
    let variable = ("NANOFAAS_ENDPOINT", by_variable.endpoint.as_str());
    for (fake, command) in [
        (&by_flag, command().args(["--endpoint", &by_flag.endpoint]).envs([variable])),
        (&by_variable, command().envs([variable])),
        (&by_context, &mut command()),
    ] {
        assert_eq!(run(command).code, 0);
        fake.assert_done();
    }

    let unknown = run(command().args(["--context", "there"]));
    assert_eq!(unknown.code, 64, "{unknown:?}");
    assert!(unknown.stderr.contains("there is no context \"there\"; known: here"), "{unknown:?}");
    let wrong = run(command().env("NANOFAAS_ENDPOINT", "ftp://x"));
    assert_eq!(wrong.code, 64, "{wrong:?}");
}

#[test]
fn a_server_that_is_down_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let run = run(&mut program(&["fn", "list", "--endpoint", &format!("http://{address}")]));
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.contains(&format!("cannot connect to {address}")), "{run:?}");
    assert!(run.stderr.contains("nanofaas dev"), "{run:?}");
}

#[test]
fn something_else_than_our_server_is_shown() {
    let (run, _) =
        with_server(vec![("GET /v1/functions", 502, "<h1>Bad\ngateway</h1>".into())], &["fn", "list"]);
    assert_eq!(run.code, 1);
    assert_eq!(run.stderr, "error: the server answered Bad Gateway: <h1>Bad gateway</h1> (HTTP 502)\n");
    let (run, _) = with_server(vec![("GET /v1/functions", 200, "hello".into())], &["fn", "list"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("is not JSON"), "{run:?}");
}

// --- functions ---------------------------------------------------------------------------------------------

#[test]
fn list_and_get() {
    let functions =
        json!([function(json!({})), function(json!({"name": "a-longer-name", "concurrency": 12}))]);
    let answer = || vec![("GET /v1/functions", 200, functions.to_string())];
    let (table, _) = with_server(answer(), &["fn", "list"]);
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("NAME           MODE  BACKEND  RUNS"), "{}", table.stdout);
    assert!(lines[1].starts_with("f              POOL  -        i "), "{}", table.stdout);
    let (json, _) = with_server(answer(), &["fn", "list", "-o", "json"]);
    assert_eq!(json.stdout, format!("{functions}\n"));

    let answer = || vec![("GET /v1/functions/f", 200, function(json!({})).to_string())];
    let (fields, _) = with_server(answer(), &["fn", "get", "f"]);
    assert!(
        fields.stdout.starts_with("name                    f\nimage                   i\n"),
        "{fields:?}"
    );
    let (json, _) = with_server(answer(), &["-o", "json", "fn", "get", "f"]);
    assert_eq!(json.stdout, format!("{}\n", function(json!({}))));

    let missing = error("NOT_FOUND", "there is no function g");
    let (run, _) = with_server(vec![("GET /v1/functions/g%2Fh", 404, missing)], &["fn", "get", "g/h"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, "error: there is no function g (NOT_FOUND)\n"));
}

#[test]
fn delete_and_scale() {
    let missing = || error("NOT_FOUND", "there is no function f");
    for (status, body, arguments, code, stdout) in [
        (204, String::new(), &["fn", "delete", "f"][..], 0, "f deleted\n"),
        (404, missing(), &["fn", "delete", "f"], 1, ""),
        (404, missing(), &["fn", "delete", "f", "--ignore-missing"], 0, "f missing\n"),
        (500, error("INTERNAL_ERROR", "teardown failed"), &["fn", "delete", "f", "--ignore-missing"], 1, ""),
        (
            204,
            String::new(),
            &["fn", "delete", "f", "-o", "json"],
            0,
            "{\"function\":\"f\",\"result\":\"deleted\"}\n",
        ),
    ] {
        let (run, _) = with_server(vec![("DELETE /v1/functions/f", status, body)], arguments);
        assert_eq!((run.code, run.stdout.as_str()), (code, stdout), "{arguments:?} {run:?}");
    }

    let path = "PUT /v1/functions/f/replicas";
    let answer = json!({"function": "f", "replicas": 3}).to_string();
    let (run, fake) = with_server(vec![(path, 200, answer.clone())], &["fn", "scale", "f", "3"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "f scaled to 3 replicas\n"));
    let request = &fake.requests()[0];
    assert_eq!(request.body, "{\"replicas\":3}");
    assert!(request.has("content-type: application/json"), "{request:?}");
    let (run, _) = with_server(vec![(path, 200, answer.clone())], &["fn", "scale", "f", "3", "-o", "json"]);
    assert_eq!(run.stdout, format!("{answer}\n"));
    let refusal = error("NOT_SCALABLE", "f runs elsewhere");
    let (run, _) = with_server(vec![(path, 400, refusal)], &["fn", "scale", "f", "3"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, "error: f runs elsewhere (NOT_SCALABLE)\n"));
}

#[test]
fn apply_creates_what_is_not_there() {
    let folder = Folder::new();
    let file = folder.write("function.yaml", &format!("{FILE}workingDir: .\n"));
    let answer = function(json!({})).to_string();
    let (run, fake) = with_server(
        vec![
            ("GET /v1/functions/f", 404, error("NOT_FOUND", "no")),
            ("POST /v1/functions", 201, answer.clone()),
        ],
        &["fn", "apply", "-f", &file],
    );
    assert_eq!((run.code, run.stdout.as_str()), (0, "f created\n"), "{run:?}");
    let posted: Value = serde_json::from_str(&fake.requests()[1].body).expect("JSON");
    let expected = json!({
        "name": "f", "image": "i", "executionMode": "POOL", "endpointUrl": "http://h:1",
        "workingDir": folder.path()
    });
    assert_eq!(posted, expected);
}

#[test]
fn apply_leaves_alone_what_is_the_same() {
    let folder = Folder::new();
    let file = folder.write("function.json", &json!({
        "name": "f", "image": "i", "executionMode": "POOL", "endpointUrl": "http://h:1", "timeoutMs": 30000.0
    }).to_string());
    let script = |function: &Value| {
        vec![
            ("GET /v1/functions/f", 200, function.to_string()),
            ("GET /v1/admin/runtime-config", 404, error("NOT_FOUND", "off")),
        ]
    };
    let same = function(json!({}));
    let (run, _) = with_server(script(&same), &["fn", "apply", "-f", &file]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "f unchanged\n", ""), "{run:?}");

    // A default of this server's own, which only its runtime configuration could tell.
    let other_default = function(json!({"concurrency": 9}));
    let (run, _) = with_server(script(&other_default), &["fn", "apply", "-f", &file, "-o", "json"]);
    assert_eq!((run.code, run.stdout), (0, format!("{other_default}\n")));
    assert!(run.stderr.contains("concurrency: not in the file"), "{}", run.stderr);
    assert!(run.stderr.contains("f unchanged"), "{}", run.stderr);
}

#[test]
fn apply_replaces_what_differs() {
    let folder = Folder::new();
    let file = folder.write("function.yaml", FILE);
    let running = function(json!({"env": {"A": "1"}, "timeoutMs": 5}));
    let script = |then: Vec<Exchange>| {
        let mut script = vec![
            ("GET /v1/functions/f", 200, running.to_string()),
            ("GET /v1/admin/runtime-config", 200, json!({"defaultTimeoutMs": 30000}).to_string()),
            ("DELETE /v1/functions/f", 204, String::new()),
        ];
        script.extend(then);
        script
    };
    let created = ("POST /v1/functions", 201, function(json!({})).to_string());
    let (run, fake) = with_server(script(vec![created.clone()]), &["fn", "apply", "-f", &file]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "f replaced\n"), "{run:?}");
    assert_eq!(run.stderr, "changed: env, timeoutMs\n");
    let lines: Vec<String> = fake.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines[2..], ["DELETE /v1/functions/f", "POST /v1/functions"]);

    // Refused: the old one comes back.
    let details = json!({"error": "VALIDATION_ERROR", "message": "Request validation failed",
        "details": ["image: must not be blank", "concurrency: must be at least 1"]});
    let refused = ("POST /v1/functions", 400, details.to_string());
    let (run, fake) = with_server(script(vec![refused, created]), &["fn", "apply", "-f", &file]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(run.stderr.contains("the new version was refused; the old one is back"), "{}", run.stderr);
    assert!(
        run.stderr.ends_with(
            "error: Request validation failed (VALIDATION_ERROR)\n  image: must not be blank\n  \
             concurrency: must be at least 1\n"
        ),
        "{}",
        run.stderr
    );
    let restored: Value = serde_json::from_str(&fake.requests()[4].body).expect("JSON");
    assert_eq!(restored, running);
}

#[test]
fn apply_survives_a_race_and_reports_what_it_cannot_read() {
    let folder = Folder::new();
    let file = folder.write("function.yaml", FILE);
    let (run, _) = with_server(
        vec![
            ("GET /v1/functions/f", 404, error("NOT_FOUND", "no")),
            ("POST /v1/functions", 409, error("CONFLICT", "f exists")),
            ("GET /v1/functions/f", 200, function(json!({})).to_string()),
            ("GET /v1/admin/runtime-config", 404, error("NOT_FOUND", "off")),
        ],
        &["fn", "apply", "-f", &file],
    );
    assert_eq!((run.code, run.stdout.as_str()), (0, "f unchanged\n"), "{run:?}");

    for (text, expected) in
        [("- 1", "is an object"), ("image: i", "`name` is missing"), ("a: [", "function.yaml")]
    {
        let file = folder.write("broken/function.yaml", text);
        let (run, _) = with_server(vec![], &["fn", "apply", "-f", &file]);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(expected) && run.stderr.contains(&file), "{run:?}");
    }
    let (run, _) = with_server(vec![], &["fn", "apply", "-f", "/does/not/exist"]);
    assert_eq!(run.code, 1, "{run:?}");
}

#[test]
fn test_compares_outputs() {
    let folder = Folder::new();
    folder.write("cases/a.json", r#"{"description": "adds", "input": {"a": 1}, "expected": {"sum": 3}}"#);
    folder.write("cases/b.json", r#"{"input": null, "expected": [1]}"#);
    folder.write("cases/c.json", r#"{"input": "@data/blob.bin", "input-encoding": "base64", "expected": 1}"#);
    folder.write("cases/d.json", r#"{"input": "@data/value.json", "expected": 1}"#);
    folder.write("cases/e.json", r#"{"input": "@data/text.txt", "expected": 1}"#);
    folder.write("cases/f.json", r#"{"input": 1}"#);
    folder.write("cases/data/blob.bin", "\u{1}\u{2}");
    folder.write("cases/data/value.json", "{ \"n\": 1.50 }");
    folder.write("cases/data/text.txt", "hi\n");
    folder.write("cases/readme.txt", "not a payload");
    let path = "POST /v1/functions/f:invoke";
    let success = |output: Value| {
        (
            path,
            200,
            json!({"executionId": "x", "status": "success", "output": output, "error": null}).to_string(),
        )
    };
    let failed = json!({"executionId": "x", "status": "error", "output": null,
        "error": {"code": "FUNCTION_ERROR", "message": "boom"}});
    let (run, fake) = with_server(
        vec![
            success(json!({"sum": 3.0})),
            success(json!([2])),
            (path, 200, failed.to_string()),
            (path, 429, error("QUEUE_FULL", "try later")),
            success(json!(1)),
        ],
        &[
            "fn",
            "test",
            "f",
            "--payloads",
            folder.path().join("cases").to_str().expect("text"),
            "--timeout-ms",
            "5000",
        ],
    );
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(
        run.stdout,
        "✅ a.json - adds\n\
         ❌ b.json - b.json\n  expected: [1]\n  actual:   [2]\n\
         ❌ c.json - c.json\n  status: error\n  error:  boom (FUNCTION_ERROR)\n\
         ❌ d.json - invocation failed: try later (QUEUE_FULL)\n\
         ✅ e.json - e.json\n\
         ❌ f.json - not a payload: missing field `expected` at line 1 column 12\n\
         2 passed, 4 failed\n"
    );
    let requests = fake.requests();
    assert!(requests.iter().all(|request| request.has("x-timeout-ms: 5000")), "{requests:?}");
    let bodies: Vec<&str> = requests.iter().map(|request| request.body.as_str()).collect();
    assert_eq!(
        bodies,
        [
            r#"{"input":{"a": 1}}"#,
            r#"{"input":null}"#,
            r#"{"input":"AQI="}"#,
            r#"{"input":{ "n": 1.50 }}"#,
            r#"{"input":"hi\n"}"#
        ]
    );

    let one = folder.path().join("cases/a.json");
    let one = one.to_str().expect("text");
    let (run, _) = with_server(vec![success(json!({"sum": 3}))], &["fn", "test", "f", "--payloads", one]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "✅ a.json - adds\n1 passed, 0 failed\n"));
    let empty = Folder::new();
    let (run, _) =
        with_server(vec![], &["fn", "test", "f", "--payloads", empty.path().to_str().expect("text")]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("there is no payload"), "{run:?}");
}

// --- invocations -------------------------------------------------------------------------------------------

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

    for data in ["hello", "", "@/does/not/exist", "{\"a\":"] {
        let (run, _) = with_server(vec![], &["invoke", "f", "-d", data]);
        assert_eq!(run.code, 1, "{data:?} {run:?}");
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
        (200, envelope("error", "FUNCTION_ERROR", "boom"), "error: boom (FUNCTION_ERROR)\n"),
        (
            408,
            envelope("timeout", "TIMEOUT", "no answer in 30000 ms"),
            "error: no answer in 30000 ms (TIMEOUT)\n",
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

// --- the demo ----------------------------------------------------------------------------------------------

#[test]
fn the_demo_says_which_port_is_busy() {
    let folder = Folder::new();
    folder.write("f/function.yaml", FILE);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let examples = folder.path().to_str().expect("text");
    for (flags, named) in [
        (["--port", &port, "--management-port", "0"], "with --port"),
        (["--port", "0", "--management-port", &port], "with --management-port"),
    ] {
        let run = run(program(&["demo", "--once", "--examples", examples]).args(flags));
        assert_eq!(run.code, 1, "{run:?}");
        assert!(
            run.stderr.contains(&format!("port {port} is busy")) && run.stderr.contains(named),
            "{run:?}"
        );
    }
}

#[test]
fn the_demo_says_where_it_looked_for_examples() {
    let folder = Folder::new();
    let examples = folder.path().to_str().expect("text");
    let run = run(&mut program(&["demo", "--once", "--examples", examples]));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("no example") && run.stderr.contains(examples), "{run:?}");
}
