//! The watchdog's tests with the binary of its own. `tests/it` of the server has the same ones run `nanofaas watchdog`.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

mod suite;

use std::process::Command;

/// The command that the suite is about.
fn watchdog_command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nanofaas-watchdog"))
}

#[test]
fn arguments_are_refused_and_versions_told() {
    let output = |argument: &str| {
        let output = watchdog_command().arg(argument).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (code, version) = output("--version");
    assert_eq!(code, Some(0));
    assert!(version.starts_with(concat!("nanofaas-watchdog ", env!("CARGO_PKG_VERSION"), " ")), "{version}");
    assert!(output("--help").1.contains("environment"));
    let (code, complaint) = output("serve");
    assert_eq!(code, Some(2));
    assert!(complaint.starts_with("error: serve "), "{complaint}");
}
