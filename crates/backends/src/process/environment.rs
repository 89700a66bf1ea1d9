//! The environment of a watchdog, from three sources; later ones win. Pure.
//!
//! 1. What programs need of the server's own: an allow-list, because the rest may hold the server's secrets.
//! 2. What the function's author wrote.
//! 3. What the watchdog is told. Nobody overrides that.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    time::Duration,
};

use nanofaas_watchdog::{guard::GUARD_PID, log::WRAPPED, options::PARENT_PID};
use nanofaas_wire::function::{FunctionSpec, RuntimeMode};

/// Variables that are passed on from the server, besides `LC_*`.
pub const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "TMPDIR", "TZ", "USER"];

/// The watchdog takes no larger `WATCHDOG_CONCURRENCY`.
const CONCURRENCY_MAX: u32 = 10_000;

/// Variables by name, in a fixed order.
pub type Environment = BTreeMap<OsString, OsString>;

/// What only the backend knows.
#[derive(Debug, Clone, Copy)]
pub struct Injected<'a> {
    /// Where programs report results, when the server's address is known.
    pub callback_url: Option<&'a str>,
    /// The process that must not be outlived.
    pub parent_pid: u32,
    /// Port of a program of mode HTTP.
    pub runtime_port: Option<u16>,
    /// Time a replica has to become ready.
    pub ready_timeout: Duration,
}

/// What the watchdog of a job is told besides.
#[derive(Debug, Clone, Copy)]
pub struct OneShot<'a> {
    /// What to report about.
    pub execution: &'a str,
    /// Number of the attempt.
    pub attempt: u32,
    /// Trace of the caller.
    pub trace_id: Option<&'a str>,
    /// What is left of the attempt's time.
    pub timeout: Duration,
    /// The request; `None`: it is on standard input.
    pub payload: Option<&'a str>,
}

/// The complete environment of a watchdog that runs `spec` for one attempt.
pub fn job_environment(
    spec: &FunctionSpec,
    own: impl IntoIterator<Item = (OsString, OsString)>,
    injected: &Injected<'_>,
    one_shot: &OneShot<'_>,
) -> Environment {
    let mut environment = environment(spec, own, injected);
    let timeout_ms = one_shot.timeout.as_millis().max(1).to_string();
    let attempt = one_shot.attempt.to_string();
    let file = one_shot.payload.is_none().then_some("/dev/stdin");
    for (name, value) in [
        ("WARM", Some("false")),
        ("EXECUTION_ID", Some(one_shot.execution)),
        ("DISPATCH_ATTEMPT", Some(&*attempt)),
        ("TIMEOUT_MS", Some(&*timeout_ms)),
        ("TRACE_ID", one_shot.trace_id),
        ("INVOCATION_PAYLOAD", one_shot.payload),
        ("INVOCATION_PAYLOAD_FILE", file),
        // A single call has no use for them.
        ("WATCHDOG_CONCURRENCY", None),
        ("WARM_HOST", None),
        ("WARM_PORT", None),
    ] {
        match value {
            Some(value) => environment.insert(name.into(), value.into()),
            None => environment.remove(OsStr::new(name)),
        };
    }
    environment
}

/// The complete environment of a watchdog that runs `spec`.
pub fn environment(
    spec: &FunctionSpec,
    own: impl IntoIterator<Item = (OsString, OsString)>,
    injected: &Injected<'_>,
) -> Environment {
    let mut environment: Environment = own.into_iter().filter(|(name, _)| is_inherited(name)).collect();
    // Shorter than the backend's own limit: the watchdog knows better why a program is not ready. Not
    // inviolable, because it cannot outlast that limit.
    let ready_timeout_ms = (injected.ready_timeout.as_millis() * 9 / 10).max(1);
    environment.insert("READY_TIMEOUT_MS".into(), ready_timeout_ms.to_string().into());
    environment.extend(spec.env.iter().map(|(name, value)| (name.into(), value.into())));
    // It would make the guard believe that it is the watchdog.
    environment.remove(OsStr::new(GUARD_PID));
    environment.extend(told(spec, injected).map(|(name, value)| (name.into(), value.into())));
    environment
}

/// The `PATH` that a function's program is sought with; `own` is the server's.
pub fn path_of(spec: &FunctionSpec, own: Option<&OsString>) -> Option<OsString> {
    spec.env.get("PATH").map(OsString::from).or_else(|| own.cloned())
}

fn is_inherited(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| INHERITED.contains(&name) || name.starts_with("LC_"))
}

fn told(spec: &FunctionSpec, injected: &Injected<'_>) -> impl Iterator<Item = (&'static str, String)> {
    let command = spec.runtime_command.as_ref().filter(|command| !command.trim().is_empty());
    let always = [
        ("FUNCTION_NAME", spec.name.clone()),
        ("WARM", "true".to_owned()),
        ("TIMEOUT_MS", spec.timeout_ms.to_string()),
        ("EXECUTION_MODE", name_of(spec.runtime_mode).to_owned()),
        ("WATCHDOG_CONCURRENCY", spec.concurrency.clamp(1, CONCURRENCY_MAX).to_string()),
        ("WATCHDOG_CHECK_FUNCTION", "true".to_owned()),
        ("WARM_HOST", "127.0.0.1".to_owned()),
        ("WARM_PORT", "0".to_owned()),
        (PARENT_PID, injected.parent_pid.to_string()),
        (WRAPPED, "1".to_owned()),
    ];
    let sometimes = [
        ("WATCHDOG_CMD", command.cloned()),
        ("CALLBACK_URL", injected.callback_url.map(str::to_owned)),
        ("RUNTIME_URL", injected.runtime_port.map(|port| format!("http://127.0.0.1:{port}/invoke"))),
    ];
    let sometimes = sometimes.into_iter().filter_map(|(name, value)| Some((name, value?)));
    always.into_iter().chain(sometimes)
}

fn name_of(mode: RuntimeMode) -> &'static str {
    match mode {
        RuntimeMode::Http => "HTTP",
        RuntimeMode::Stdio => "STDIO",
        RuntimeMode::File => "FILE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::test_spec;

    const INJECTED: Injected<'_> = Injected {
        callback_url: Some("http://127.0.0.1:8080/v1/internal/executions"),
        parent_pid: 7,
        runtime_port: Some(4321),
        ready_timeout: Duration::from_secs(20),
    };

    /// The value of `name` when the server has `own`, the function `user`.
    fn value(
        name: &str,
        own: &[(&str, &str)],
        user: &[(&str, &str)],
        change: impl FnOnce(&mut FunctionSpec, &mut Injected<'_>),
    ) -> Option<String> {
        let (mut spec, mut injected) = (test_spec("echo"), INJECTED);
        spec.env = user.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        change(&mut spec, &mut injected);
        let own = own.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let environment = environment(&spec, own, &injected);
        Some(environment.get(OsStr::new(name))?.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_harmless_variables_are_inherited() {
        for (name, inherited) in [
            ("PATH", true),
            ("HOME", true),
            ("LANG", true),
            ("LC_ALL", true),
            ("LC_TIME", true),
            ("TMPDIR", true),
            ("TZ", true),
            ("USER", true),
            ("NANOFAAS_DELIVERY_SECRET", false),
            ("NANOFAAS_DATA_DIR", false),
            ("AWS_SECRET_ACCESS_KEY", false),
            ("RUST_LOG", false),
            ("PATHS", false),
            ("XLC_ALL", false),
        ] {
            let expected = inherited.then(|| "own".to_owned());
            assert_eq!(value(name, &[(name, "own")], &[], |_, _| ()), expected, "{name}");
        }
    }

    #[test]
    fn the_author_overrides_what_is_inherited() {
        assert_eq!(value("PATH", &[("PATH", "own")], &[("PATH", "user")], |_, _| ()).unwrap(), "user");
        assert_eq!(value("RUST_LOG", &[], &[("RUST_LOG", "debug")], |_, _| ()).unwrap(), "debug");
        assert_eq!(value("READY_TIMEOUT_MS", &[], &[("READY_TIMEOUT_MS", "9")], |_, _| ()).unwrap(), "9");
    }

    #[test]
    fn nobody_overrides_what_is_injected() {
        for (name, expected) in [
            ("FUNCTION_NAME", "echo"),
            ("WARM", "true"),
            ("TIMEOUT_MS", "30000"),
            ("EXECUTION_MODE", "STDIO"),
            ("WATCHDOG_CMD", "cat -"),
            ("CALLBACK_URL", "http://127.0.0.1:8080/v1/internal/executions"),
            ("WATCHDOG_CONCURRENCY", "4"),
            ("WATCHDOG_CHECK_FUNCTION", "true"),
            ("WARM_HOST", "127.0.0.1"),
            ("WARM_PORT", "0"),
            ("RUNTIME_URL", "http://127.0.0.1:4321/invoke"),
            ("NANOFAAS_PARENT_PID", "7"),
        ] {
            assert_eq!(
                value(name, &[(name, "own")], &[(name, "user")], |_, _| ()).unwrap(),
                expected,
                "{name}"
            );
        }
        assert_eq!(value(GUARD_PID, &[], &[(GUARD_PID, "1")], |_, _| ()), None);
    }

    #[test]
    fn what_is_not_known_is_not_injected() {
        assert_eq!(value("WATCHDOG_CMD", &[], &[], |spec, _| spec.runtime_command = None), None);
        assert_eq!(value("WATCHDOG_CMD", &[], &[], |spec, _| spec.runtime_command = Some(" ".into())), None);
        assert_eq!(value("CALLBACK_URL", &[], &[], |_, injected| injected.callback_url = None), None);
        assert_eq!(value("RUNTIME_URL", &[], &[], |_, injected| injected.runtime_port = None), None);
    }

    #[test]
    fn a_job_is_told_of_its_attempt_whatever_the_author_wrote() {
        let mut spec = test_spec("echo");
        for name in ["WARM", "EXECUTION_ID", "TRACE_ID", "INVOCATION_PAYLOAD_FILE", "WARM_PORT", "OWN"] {
            spec.env.insert(name.to_owned(), "true".to_owned());
        }
        let one_shot = OneShot {
            execution: "e1",
            attempt: 2,
            trace_id: None,
            timeout: Duration::from_millis(1500),
            payload: Some("{}"),
        };
        let told = |one_shot: &OneShot<'_>, name: &str| {
            let environment = job_environment(&spec, [], &INJECTED, one_shot);
            environment.get(OsStr::new(name)).map(|value| value.to_str().unwrap().to_owned())
        };
        for (name, expected) in [
            ("WARM", Some("false")),
            ("EXECUTION_ID", Some("e1")),
            ("DISPATCH_ATTEMPT", Some("2")),
            ("TIMEOUT_MS", Some("1500")),
            ("TRACE_ID", None),
            ("INVOCATION_PAYLOAD", Some("{}")),
            ("INVOCATION_PAYLOAD_FILE", None),
            ("WARM_PORT", None),
            ("CALLBACK_URL", Some("http://127.0.0.1:8080/v1/internal/executions")),
            ("FUNCTION_NAME", Some("echo")),
            ("OWN", Some("true")),
        ] {
            assert_eq!(told(&one_shot, name).as_deref(), expected, "{name}");
        }
        let large = OneShot { payload: None, ..one_shot };
        assert_eq!(told(&large, "INVOCATION_PAYLOAD"), None);
        assert_eq!(told(&large, "INVOCATION_PAYLOAD_FILE").as_deref(), Some("/dev/stdin"));
    }

    #[test]
    fn numbers_fit_the_watchdog() {
        assert_eq!(value("READY_TIMEOUT_MS", &[], &[], |_, _| ()).unwrap(), "18000");
        let concurrency =
            |number| value("WATCHDOG_CONCURRENCY", &[], &[], |spec, _| spec.concurrency = number).unwrap();
        assert_eq!([concurrency(0), concurrency(64), concurrency(u32::MAX)], ["1", "64", "10000"]);
    }
}
