//! `nanofaas fn`.

use serde_json::{Value, json};

use super::{FILE, error, fake::Exchange, function, program::Folder, with_server};

#[test]
fn list_and_get() {
    let functions =
        json!([function(json!({})), function(json!({"name": "a-longer-name", "concurrency": 12}))]);
    let answer = || vec![("GET /v1/functions", 200, functions.to_string())];
    let (table, _) = with_server(answer(), &["fn", "list"]);
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("NAME           MODE  BACKEND  CONCURRENCY"), "{}", table.stdout);
    assert_eq!(lines[1], "f              POOL  -        4            100    30000       i");
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
        vec![("POST /v1/functions?strict=true", 201, answer.clone())],
        &["fn", "apply", "-f", &file],
    );
    assert_eq!((run.code, run.stdout.as_str()), (0, "f created\n"), "{run:?}");
    let posted: Value = serde_json::from_str(&fake.requests()[0].body).expect("JSON");
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
            ("POST /v1/functions?strict=true", 409, error("CONFLICT", "f exists")),
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
            ("POST /v1/functions?strict=true", 409, error("CONFLICT", "f exists")),
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
    assert_eq!(lines[3..], ["DELETE /v1/functions/f", "POST /v1/functions"]);

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
    let restored: Value = serde_json::from_str(&fake.requests()[5].body).expect("JSON");
    assert_eq!(restored, running);
}

#[test]
fn apply_is_strict_unless_told_otherwise() {
    let folder = Folder::new();
    let file = folder.write("function.yaml", &format!("{FILE}maxRetry: 1\n"));
    let refusal = json!({"error": "VALIDATION_ERROR", "message": "Request validation failed",
        "details": ["maxRetry: unknown, did you mean maxRetries?"]});
    let (run, _) = with_server(
        vec![("POST /v1/functions?strict=true", 400, refusal.to_string())],
        &["fn", "apply", "-f", &file],
    );
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(run.stderr.contains("maxRetry: unknown, did you mean maxRetries?"), "{run:?}");
    assert!(run.stderr.contains("--no-strict"), "{run:?}");

    let answer = function(json!({"warnings": ["maxRetry: unknown, did you mean maxRetries?"]}));
    let (run, _) = with_server(
        vec![("POST /v1/functions", 201, answer.to_string())],
        &["fn", "apply", "-f", &file, "--no-strict"],
    );
    assert_eq!((run.code, run.stdout.as_str()), (0, "f created\n"), "{run:?}");
    assert_eq!(run.stderr, "warning: f: maxRetry: unknown, did you mean maxRetries?\n");
}

#[test]
fn apply_takes_every_document_of_a_file() {
    let folder = Folder::new();
    let file = folder.write("functions.yaml", "name: f\n---\nname: g\n---\nname: h\n");
    let refusal = json!({"error": "VALIDATION_ERROR", "message": "Request validation failed",
        "details": ["image: is required"]});
    let created = |name: &str| function(json!({"name": name})).to_string();
    let path = "POST /v1/functions?strict=true";
    let (run, fake) = with_server(
        vec![(path, 201, created("f")), (path, 400, refusal.to_string()), (path, 201, created("h"))],
        &["fn", "apply", "-f", &file],
    );
    assert_eq!((run.code, run.stdout.as_str()), (1, "f created\nh created\n"), "{run:?}");
    assert_eq!(run.stderr, "error: g: Request validation failed (VALIDATION_ERROR)\n  image: is required\n");
    assert_eq!(fake.requests()[1].body, "{\"name\":\"g\"}");
}

#[test]
fn apply_survives_a_race_and_reports_what_it_cannot_read() {
    let folder = Folder::new();
    let file = folder.write("function.yaml", FILE);
    let (run, _) = with_server(
        vec![
            ("POST /v1/functions?strict=true", 409, error("CONFLICT", "f exists")),
            ("GET /v1/functions/f", 404, error("NOT_FOUND", "no")),
            ("POST /v1/functions?strict=true", 409, error("CONFLICT", "f exists")),
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
