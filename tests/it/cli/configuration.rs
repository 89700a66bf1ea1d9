//! What needs no server: arguments, configuration, help.

use serde_json::{Value, json};

use super::{
    fake::Fake,
    program::{Folder, program, run},
};

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
        assert!(!run.stdout.is_empty() && !run.stdout.contains("\n  __exec"), "{arguments:?}");
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
