//! Which server is asked, and what happens when there is none.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use super::{
    fake::Fake,
    program::{Folder, program, run},
    with_server,
};

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

/// A server behind TLS; ends with the test.
struct Secure(Child);

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn https_is_spoken_and_certificates_are_checked() {
    let tls = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/cli/tls");
    let python = Command::new("python3")
        .args([format!("{tls}/server.py"), format!("{tls}/server.pem")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut server = Secure(python.expect("python3 starts"));
    let mut port = String::new();
    let stdout = server.0.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut port).expect("it says its port");
    let (ca, port) = (format!("{tls}/ca.pem"), port.trim());
    for host in ["localhost", "127.0.0.1"] {
        let endpoint = format!("https://{host}:{port}");
        let trusted = run(&mut program(&["fn", "list", "--endpoint", &endpoint, "--cacert", &ca]));
        assert_eq!((trusted.code, trusted.stdout.lines().count()), (0, 1), "{trusted:?}");
        let unknown = run(&mut program(&["fn", "list", "--endpoint", &endpoint]));
        assert_eq!(unknown.code, 1, "{unknown:?}");
        assert!(unknown.stderr.contains(&format!("cannot connect to {host}:{port}")), "{unknown:?}");
    }
    let endpoint = format!("https://localhost:{port}");
    for no_certificates in [format!("{tls}/server.py"), "/does/not/exist".to_owned()] {
        let wrong = run(&mut program(&["fn", "list", "--endpoint", &endpoint, "--cacert", &no_certificates]));
        assert_eq!(wrong.code, 64, "{wrong:?}");
        assert!(wrong.stderr.contains(&no_certificates), "{wrong:?}");
    }
}
