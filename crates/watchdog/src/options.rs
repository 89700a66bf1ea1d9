//! The environment, read and checked once: every problem is reported, not only the first.
//!
//! A variable that is blank counts as not set. Nothing here opens, binds or starts anything.

use std::{
    ffi::{OsStr, OsString},
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use bytes::Bytes;
use hyper::Uri;
use rustix::process::Pid;

use super::invocation::json_document;

/// Process that the watchdog must not outlive; set by whoever starts it as a local process.
pub const PARENT_PID: &str = "NANOFAAS_PARENT_PID";

/// Longest limit for one call or for becoming ready: a week.
const LIMIT_MS_MAX: u64 = 7 * 24 * 3600 * 1000;
const CONCURRENCY_MAX: u64 = 10_000;

/// How the program takes a request and gives its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One long-lived process that serves HTTP.
    Http,
    /// One process per call, standard input to standard output.
    Stdio,
    /// One process per call, from file to file.
    File,
}

impl Mode {
    /// Its name in the environment and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Http => "HTTP",
            Mode::Stdio => "STDIO",
            Mode::File => "FILE",
        }
    }
}

/// What the watchdog does with the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Serves calls until told to stop.
    Warm {
        /// Address to listen on.
        host: IpAddr,
        /// Port to listen on; 0 lets the system choose.
        port: u16,
    },
    /// Runs one execution and reports it.
    OneShot(OneShot),
}

/// The one execution of a one-shot watchdog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneShot {
    /// Id of the execution.
    pub execution_id: String,
    /// Full address that the result is posted to.
    pub callback: String,
    /// The request object as JSON; `null` when none was given.
    pub payload: Bytes,
    /// The file with the request object, instead: for one that is too long for an environment.
    pub payload_file: Option<PathBuf>,
    /// Trace of the caller.
    pub trace_id: Option<String>,
    /// Number of the attempt, sent back so that a late result cannot end a newer attempt.
    pub attempt: Option<u64>,
}

/// Everything the watchdog is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Program and arguments, never empty.
    pub program: Vec<String>,
    /// How the program is talked to.
    pub mode: Mode,
    /// Name of the function, for metrics.
    pub function: String,
    /// Calls that name another function are not run.
    pub checks_function: bool,
    /// Limit of one call.
    pub timeout: Duration,
    /// Time a program of mode HTTP has to answer its health check after it was started.
    pub ready_timeout: Duration,
    /// Calls that run at the same time; more wait.
    pub concurrency: usize,
    /// Where a program of mode HTTP serves; port 0 stands for any free one.
    pub runtime: Uri,
    /// Where it answers health checks.
    pub health: Uri,
    /// Process whose end ends the watchdog.
    pub parent: Option<Pid>,
    /// Server or single execution.
    pub task: Task,
}

/// All that is wrong with the environment, one line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment of the watchdog is wrong:\n  {}", .0.join("\n  "))]
pub struct OptionsError(pub Vec<String>);

impl Options {
    /// Reads the options with `lookup`, which gives the value of a variable.
    ///
    /// # Errors
    /// Every variable that is missing or cannot be used.
    pub fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Options, OptionsError> {
        let mut reader = Reader { lookup, problems: Vec::new() };
        let warm = reader.flag("WARM");
        let task = if warm { reader.warm() } else { reader.one_shot() };
        let runtime_port = if warm { 8081 } else { 8080 };
        let runtime = reader.address("RUNTIME_URL", || format!("http://127.0.0.1:{runtime_port}/invoke"));
        let health = reader.address("HEALTH_URL", || health_of(&runtime));
        let options = Options {
            program: reader.words("WATCHDOG_CMD", "java -jar /app/app.jar"),
            mode: reader.mode("EXECUTION_MODE"),
            function: reader.text("FUNCTION_NAME").unwrap_or_else(|| "unknown".to_owned()),
            checks_function: reader.flag("WATCHDOG_CHECK_FUNCTION"),
            timeout: Duration::from_millis(reader.number("TIMEOUT_MS", 1..=LIMIT_MS_MAX).unwrap_or(30_000)),
            ready_timeout: Duration::from_millis(
                reader.number("READY_TIMEOUT_MS", 1..=LIMIT_MS_MAX).unwrap_or(10_000),
            ),
            concurrency: reader.number("WATCHDOG_CONCURRENCY", 1..=CONCURRENCY_MAX).unwrap_or(4) as usize,
            runtime,
            health,
            parent: reader
                .number(PARENT_PID, 1..=i32::MAX as u64)
                .and_then(|pid| Pid::from_raw(pid.try_into().ok()?)),
            task,
        };
        reader.check_ports(&options);
        if reader.problems.is_empty() { Ok(options) } else { Err(OptionsError(reader.problems)) }
    }
}

/// The port an address leads to.
pub(super) fn port_of(address: &Uri) -> u16 {
    address.port_u16().unwrap_or(80)
}

/// The same address on another port.
pub(super) fn with_port(address: &Uri, port: u16) -> Uri {
    let path = address.path_and_query().map_or("/", |path| path.as_str());
    let host = address.host().unwrap_or("127.0.0.1");
    format!("http://{host}:{port}{path}").parse().unwrap_or_else(|_| address.clone())
}

/// The health check next to an invoke address.
fn health_of(runtime: &Uri) -> String {
    let path = runtime.path();
    let base = path.strip_suffix("/invoke").unwrap_or_default();
    let authority = runtime.authority().map_or("127.0.0.1", |authority| authority.as_str());
    format!("http://{authority}{base}/health")
}

/// `CALLBACK_URL` is either the complete address or the base that execution ids are appended to.
fn callback_of(base: &str, execution_id: &str) -> String {
    if base.ends_with(":complete") {
        return base.to_owned();
    }
    format!("{}/{execution_id}:complete", base.trim_end_matches('/'))
}

/// Reads variables and remembers what was wrong with them.
struct Reader<F> {
    lookup: F,
    problems: Vec<String>,
}

impl<F: Fn(&str) -> Option<OsString>> Reader<F> {
    fn text(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?;
        match value.to_str().map(str::trim) {
            Some("") => None,
            Some(text) => Some(text.to_owned()),
            None => {
                self.problem(name, &value, "is not UTF-8");
                None
            }
        }
    }

    fn problem(&mut self, name: &str, value: impl AsRef<OsStr>, wrong: &str) {
        self.problems.push(format!("{name}={:?} {wrong}", value.as_ref()));
    }

    fn parsed<T: FromStr>(&mut self, name: &str, wrong: &str) -> Option<T> {
        let text = self.text(name)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.problem(name, &text, wrong);
        }
        parsed
    }

    fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let wrong = format!("is not a whole number from {} to {}", range.start(), range.end());
        let number: u64 = self.parsed(name, &wrong)?;
        if range.contains(&number) {
            return Some(number);
        }
        self.problem(name, number.to_string(), &wrong);
        None
    }

    fn flag(&mut self, name: &str) -> bool {
        let Some(text) = self.text(name) else { return false };
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" => true,
            "0" | "false" | "no" => false,
            _ => {
                self.problem(name, &text, "is neither true nor false");
                false
            }
        }
    }

    fn mode(&mut self, name: &str) -> Mode {
        let Some(text) = self.text(name) else { return Mode::Http };
        match text.to_ascii_uppercase().as_str() {
            "HTTP" => Mode::Http,
            "STDIO" => Mode::Stdio,
            "FILE" => Mode::File,
            _ => {
                self.problem(name, &text, "is none of HTTP, STDIO, FILE");
                Mode::Http
            }
        }
    }

    fn words(&mut self, name: &str, default: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        match shlex::split(&text) {
            // `""` and `# comment` are words that name no program.
            Some(words) if words.first().is_some_and(|program| !program.is_empty()) => words,
            Some(_) => {
                self.problem(name, &text, "names no program");
                Vec::new()
            }
            None => {
                self.problem(name, &text, "has a quote that is not closed");
                Vec::new()
            }
        }
    }

    fn address(&mut self, name: &str, default: impl Fn() -> String) -> Uri {
        let text = self.text(name).unwrap_or_else(&default);
        match text.parse::<Uri>() {
            Ok(address) if address.scheme_str() == Some("http") && address.host().is_some() => address,
            _ => {
                self.problem(name, &text, "is not an address like http://127.0.0.1:8081/invoke");
                Uri::default()
            }
        }
    }

    fn warm(&mut self) -> Task {
        let host = self.parsed("WARM_HOST", "is not an IP address");
        let port = self.number("WARM_PORT", 0..=65_535);
        Task::Warm {
            host: host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port: port.unwrap_or(8080) as u16,
        }
    }

    fn one_shot(&mut self) -> Task {
        let execution_id = self.required("EXECUTION_ID");
        let base = self.required("CALLBACK_URL");
        let callback = callback_of(&base, &execution_id);
        let reachable = callback.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http"));
        if !base.is_empty() && !reachable {
            self.problem("CALLBACK_URL", &base, "is not an http:// address");
        }
        let payload = self.text("INVOCATION_PAYLOAD").unwrap_or_else(|| "null".to_owned());
        if let Err(reason) = json_document(payload.as_bytes()) {
            // The payload may be secret: only the reason is shown.
            self.problems.push(format!("INVOCATION_PAYLOAD is not JSON: {reason}"));
        }
        Task::OneShot(OneShot {
            execution_id,
            callback,
            payload: payload.into(),
            payload_file: self.text("INVOCATION_PAYLOAD_FILE").map(PathBuf::from),
            trace_id: self.text("TRACE_ID"),
            attempt: self.number("DISPATCH_ATTEMPT", 1..=u64::MAX),
        })
    }

    fn required(&mut self, name: &str) -> String {
        let text = self.text(name);
        if text.is_none() {
            self.problems.push(format!("{name} is not set; it is needed unless WARM=true"));
        }
        text.unwrap_or_default()
    }

    fn check_ports(&mut self, options: &Options) {
        if let Task::Warm { port, .. } = options.task
            && options.mode == Mode::Http
            && port != 0
            && port == port_of(&options.runtime)
        {
            self.problems.push(format!("WARM_PORT and RUNTIME_URL both use port {port}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Options, OptionsError> {
        Options::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
    }

    #[test]
    fn warm_defaults_are_those_of_the_contract() {
        let options = read(&[("WARM", "true")]).unwrap();
        assert_eq!(options.program, ["java", "-jar", "/app/app.jar"]);
        assert_eq!(options.mode, Mode::Http);
        assert_eq!(options.function, "unknown");
        assert_eq!(options.timeout, Duration::from_secs(30));
        assert_eq!(options.ready_timeout, Duration::from_secs(10));
        assert_eq!(options.concurrency, 4);
        assert_eq!(options.runtime, "http://127.0.0.1:8081/invoke");
        assert_eq!(options.health, "http://127.0.0.1:8081/health");
        assert_eq!(options.task, Task::Warm { host: "0.0.0.0".parse().unwrap(), port: 8080 });
    }

    #[test]
    fn words_are_those_of_a_shell() {
        let options = read(&[("WARM", "yes"), ("WATCHDOG_CMD", r#"sh -c 'echo "a b"' x\ y"#)]).unwrap();
        assert_eq!(options.program, ["sh", "-c", r#"echo "a b""#, "x y"]);
    }

    #[test]
    fn the_callback_is_built_from_base_or_whole_address() {
        for (url, expected) in [
            ("http://h/v1/internal/executions", "http://h/v1/internal/executions/e1:complete"),
            ("http://h/v1/internal/executions/", "http://h/v1/internal/executions/e1:complete"),
            ("http://h/x/other:complete", "http://h/x/other:complete"),
        ] {
            let options = read(&[("EXECUTION_ID", "e1"), ("CALLBACK_URL", url)]).unwrap();
            let Task::OneShot(one_shot) = options.task else { panic!("not one-shot") };
            assert_eq!(one_shot.callback, expected);
            assert_eq!(one_shot.payload, "null");
        }
    }

    #[test]
    fn the_health_address_follows_the_runtime_address() {
        for (runtime, health) in [
            ("http://127.0.0.1:9/invoke", "http://127.0.0.1:9/health"),
            ("http://h:9/api/invoke", "http://h:9/api/health"),
            ("http://h/", "http://h/health"),
        ] {
            assert_eq!(read(&[("WARM", "1"), ("RUNTIME_URL", runtime)]).unwrap().health, health);
        }
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let OptionsError(problems) = read(&[
            ("WATCHDOG_CMD", "sh -c 'x"),
            ("EXECUTION_MODE", "PIPE"),
            ("TIMEOUT_MS", "0"),
            ("READY_TIMEOUT_MS", "soon"),
            ("WATCHDOG_CONCURRENCY", "-1"),
            ("RUNTIME_URL", "ftp://x"),
            ("INVOCATION_PAYLOAD", "{"),
            ("DISPATCH_ATTEMPT", "0"),
            ("CALLBACK_URL", "https://x"),
        ])
        .unwrap_err();
        for name in [
            "WATCHDOG_CMD",
            "EXECUTION_MODE",
            "TIMEOUT_MS",
            "READY_TIMEOUT_MS",
            "WATCHDOG_CONCURRENCY",
            "RUNTIME_URL",
            "INVOCATION_PAYLOAD",
            "DISPATCH_ATTEMPT",
            "CALLBACK_URL",
            "EXECUTION_ID",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(name)), "{name} in {problems:?}");
        }
    }

    #[test]
    fn one_port_cannot_serve_two() {
        let both = [("WARM", "true"), ("WARM_PORT", "8081")];
        assert!(read(&both).is_err());
        assert!(read(&[both[0], both[1], ("EXECUTION_MODE", "stdio")]).is_ok());
    }
}
