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
        &["fn", "list", "--header", "x"],
        &["context", "set", "a"],
        &["context", "set", "a", "--endpoint", "b"],
        &["context", "list", "--endpoint", "http://a"],
        &["runtime-config", "set"],
        &["runtime-config", "set", "a"],
        &["config", "--endpoint", "http://a"],
        &["config", "--running", "--dev"],
    ] {
        let run = run(program(arguments).env("HOME", "/does/not/exist"));
        assert_eq!(run.code, 2, "{arguments:?} {run:?}");
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
}

/// Where to ask and how to print means something to some commands; to the others it is a mistake.
#[test]
fn endpoint_and_output_belong_to_the_commands_that_use_them() {
    let (endpoint, output) = (["--endpoint", "http://127.0.0.1:1"], ["-o", "json"]);
    for (command, takes_endpoint, takes_output) in [
        (&["serve"][..], false, false),
        (&["dev"], false, false),
        (&["demo"], false, false),
        (&["watchdog"], false, false),
        (&["completions", "bash"], false, false),
        (&["crd"], false, false),
        (&["store", "stats"], false, true),
        (&["config"], false, true),
        (&["context", "list"], false, true),
        (&["fn", "list"], true, true),
        (&["fn", "scale", "f", "1"], true, true),
        (&["invoke", "f", "-d", "1"], true, true),
        (&["enqueue", "f", "-d", "1"], true, true),
        (&["exec", "get", "x"], true, true),
        (&["dlq", "list", "f"], true, true),
        (&["runtime-config", "get"], true, true),
        (&["top"], true, true),
    ] {
        for (flag, is_taken) in [(endpoint, takes_endpoint), (output, takes_output)] {
            // Before the command, after it.
            let front = [&flag, command].concat();
            let back = [command, &flag].concat();
            for arguments in [front, back] {
                if is_taken {
                    let help = run(&mut program(&[&arguments[..], &["--help"]].concat()));
                    assert_eq!(help.code, 0, "{arguments:?} {help:?}");
                    assert!(help.stdout.contains(flag[0]), "{arguments:?} {help:?}");
                } else {
                    let mistake = run(&mut program(&arguments));
                    assert_eq!(mistake.code, 2, "{arguments:?} {mistake:?}");
                }
            }
        }
    }
    for command in ["serve", "dev", "demo", "completions"] {
        let help = run(&mut program(&[command, "--help"])).stdout;
        assert!(!help.contains("--endpoint") && !help.contains("--output"), "{help}");
    }
}

#[test]
fn the_definition_that_is_printed_is_the_one_in_the_chart() {
    let printed = run(&mut program(&["crd"]));
    assert_eq!(printed.code, 0, "{printed:?}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/nanofaas/crd/functions.yaml");
    assert_eq!(printed.stdout, std::fs::read_to_string(path).expect("the chart"));
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

/// A backend that this build does not have would run nothing: no command starts with one, wherever it is named.
#[test]
fn a_backend_that_this_version_does_not_have_is_exit_code_64() {
    let folder = Folder::new();
    let file = folder.write("n.toml", "[deployment]\nbackends = [ 'process', 'container' ]\n");
    let listed = "deployment.backends: names container, which this version does not have; it has: process";
    let default =
        "deployment.default-backend: names container, which this version does not have; it has: process";
    for command in ["serve", "dev", "config"] {
        for (flags, environment, origin, message) in [
            (&["--config", &file][..], None, &*format!("{file}:2"), listed),
            (&["--set", "deployment.backends=container"], None, "--set", listed),
            (&["--set", "deployment.default-backend=container"], None, "--set", default),
            (
                &[],
                Some(("NANOFAAS_DEPLOYMENT_BACKENDS", "container")),
                "NANOFAAS_DEPLOYMENT_BACKENDS",
                listed,
            ),
            (
                &[],
                Some(("NANOFAAS_DEPLOYMENT_DEFAULT_BACKEND", "container")),
                "NANOFAAS_DEPLOYMENT_DEFAULT_BACKEND",
                default,
            ),
        ] {
            let run = run(program(&[command]).args(flags).envs(environment));
            assert_eq!(run.code, 64, "{command} {run:?}");
            assert!(run.stderr.contains(&format!("{origin}: {message}")), "{command} {run:?}");
            assert_eq!(run.stdout, "", "{command}");
        }
    }
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
