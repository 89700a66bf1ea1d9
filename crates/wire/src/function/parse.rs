//! From the body of a registration to a resolved function.
//!
//! [`FunctionSpec::parse`] reads every field, collects every violation, and only then builds the function: who
//! sends five mistakes learns of five. Null counts as absent, of two equal keys the last one wins. What is said in
//! vain (unknown fields, fields without effect) is in `warnings`.
//!
//! A response can be posted again. Most of what a response has on top of a request is not read at all, so the
//! resolved values simply come out the same. One field has two meanings, `endpointUrl`: what the user gave, or, for
//! a DEPLOYMENT function that a backend runs, the address of its first replica. Taken as user input the latter
//! would become a fallback (degrade to POOL) that points at a process which is long gone. So: **with mode
//! DEPLOYMENT and a `deploymentBackend` in the body, `endpointUrl` is ignored.** Only the server writes
//! `deploymentBackend`, exactly when a backend runs the function; a degraded function has none and keeps its
//! address, as does a POOL function.
//!
//! Not here: anything that needs I/O (images, backends, whether the name is taken).

#[cfg(test)]
mod tests;

use serde_json::Value;
use shard_core::Name;

use super::{
    Amounts, ExecutionMode, FunctionSpec, Resources, RuntimeMode, ScalingConfig, endpoint,
    fields::{Choices, Fields, Violations},
    pod,
    quantity::Quantity,
    scaling, warnings,
};

/// Most executions that may wait for one function: all of them end when it is removed, and memory is bounded.
pub const QUEUE_SIZE_MAX: u32 = 1_000_000;

/// Longest attempt that may be asked for: one day.
const TIMEOUT_MS_MAX: u32 = 86_400_000;

/// Most attempts that may be asked for.
const RETRIES_MAX: u32 = 100;

/// `retryBackoffMs` of a function that names none.
const RETRY_BACKOFF_MS: u32 = 100;

const NAME_PATTERN: &str = "^[a-zA-Z][a-zA-Z0-9._-]{0,62}$";

const ENV_KEY_PATTERN: &str = "[A-Za-z_][A-Za-z0-9_]*";

const EXECUTION_MODES: Choices<ExecutionMode> = &[
    ("LOCAL", ExecutionMode::Local),
    ("POOL", ExecutionMode::Pool),
    ("DEPLOYMENT", ExecutionMode::Deployment),
    ("REMOTE", ExecutionMode::Remote),
];

const RUNTIME_MODES: Choices<RuntimeMode> =
    &[("HTTP", RuntimeMode::Http), ("STDIO", RuntimeMode::Stdio), ("FILE", RuntimeMode::File)];

/// Server-side facts that a registration is resolved against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// `timeoutMs` of a function that names none, in milliseconds.
    pub default_timeout_ms: u32,
    /// `concurrency` of a function that names none.
    pub default_concurrency: u32,
    /// `queueSize` of a function that names none.
    pub default_queue_size: u32,
    /// Attempts of accepted calls of a function that names no `maxRetries`.
    pub default_max_retries: u32,
    /// The process backend is on: a function may name a program instead of an image.
    pub image_optional: bool,
    /// The Kubernetes backend is on: what a function says about its image and its Pods counts.
    pub pods: bool,
}

/// Why a body is not a function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It is not a JSON object; the message has line and column.
    #[error("{0}")]
    Malformed(String),
    /// All violations, each `<field>: <message>`.
    #[error("the function is not valid: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

impl FunctionSpec {
    /// Reads the body of a registration and fills in every default.
    ///
    /// # Errors
    /// [`SpecError::Malformed`] when it is not a JSON object, else [`SpecError::Invalid`] with every violation.
    pub fn parse(body: &[u8], registration: &Registration) -> Result<FunctionSpec, SpecError> {
        Self::parse_with_warnings(body, registration, false).map(|(spec, _)| spec)
    }

    /// The same, and what the body says in vain, one line each. `strict` makes violations of these lines.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse).
    pub fn parse_with_warnings(
        body: &[u8],
        registration: &Registration,
        strict: bool,
    ) -> Result<(FunctionSpec, Vec<String>), SpecError> {
        let members = match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => members,
            Ok(other) => return Err(not_an_object(&other)),
            Err(_) if body.trim_ascii().is_empty() => return Err(empty()),
            Err(error) => return Err(SpecError::Malformed(format!("The body is not valid JSON: {error}"))),
        };
        let (mut violations, mut warnings) = (Violations::default(), Violations::default());
        let spec = read(&Fields::new(&members), registration, &mut violations);
        let mode = spec.as_ref().map(|spec| spec.requested_execution_mode);
        warnings::collect(&members, mode, registration, if strict { &mut violations } else { &mut warnings });
        match spec {
            Some(spec) if violations.is_empty() => Ok((spec, warnings.into_lines())),
            _ => Err(SpecError::Invalid(violations.into_lines())),
        }
    }
}

fn not_an_object(value: &Value) -> SpecError {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) | Value::Object(_) => "an array",
    };
    SpecError::Malformed(format!(
        "The body must be a JSON object with at least a name, not {kind} (line 1 column 1)"
    ))
}

fn empty() -> SpecError {
    SpecError::Malformed(
        "The body is empty (line 1 column 0): send the function as a JSON object with at least a name"
            .to_owned(),
    )
}

/// `None` only with a violation.
fn read(
    fields: &Fields<'_>,
    registration: &Registration,
    violations: &mut Violations,
) -> Option<FunctionSpec> {
    let name = name(fields, violations);
    // Of an unknown mode nothing can be required: that would only add violations that vanish with the first.
    let mode = match fields.get("executionMode") {
        None => Some(ExecutionMode::Deployment),
        Some(_) => fields.choice("executionMode", EXECUTION_MODES, violations),
    };
    let image = fields.text_not_blank("image", violations).map(str::to_owned);
    let command = fields.texts("command", violations).unwrap_or_default();
    let env = fields.text_map("env", env_key_allowed, ENV_KEY_PATTERN, violations).unwrap_or_default();
    let resources = resources(fields, violations);
    let timeout_ms = fields.integer_u32(timeout_field(fields), 1..=TIMEOUT_MS_MAX, violations);
    let concurrency = fields.integer_u32("concurrency", 1..=u32::MAX, violations);
    let queue_size = fields.integer_u32("queueSize", 1..=QUEUE_SIZE_MAX, violations);
    let max_retries = fields.integer_u32("maxRetries", 0..=RETRIES_MAX, violations);
    let retry_backoff_ms = fields.integer_u32("retryBackoffMs", 0..=u32::MAX, violations);
    let rate_limit_per_second = fields.integer_u32("rateLimitPerSecond", 1..=u32::MAX, violations);
    let endpoint_url = endpoint_url(fields, mode, violations);
    let runtime_mode = fields.choice("runtimeMode", RUNTIME_MODES, violations);
    let runtime_command = runtime_command(fields, violations);
    let working_dir = working_dir(fields, violations);
    let scaling_config = scaling_config(fields, mode, violations);
    let image_pull_secrets = fields.texts("imagePullSecrets", violations);
    let pod = pod::read(fields, violations);
    require_program(fields, mode, registration, violations);

    Some(FunctionSpec {
        name: name?,
        image,
        command,
        env,
        resources,
        timeout_ms: timeout_ms.unwrap_or(registration.default_timeout_ms),
        concurrency: concurrency.unwrap_or(registration.default_concurrency),
        queue_size: queue_size.unwrap_or(registration.default_queue_size),
        max_retries,
        default_max_retries: registration.default_max_retries,
        retry_backoff_ms: retry_backoff_ms.unwrap_or(RETRY_BACKOFF_MS),
        rate_limit_per_second,
        endpoint_url,
        execution_mode: mode?,
        requested_execution_mode: mode?,
        effective_execution_mode: mode?,
        deployment_backend: None,
        degradation_reason: None,
        runtime_mode: runtime_mode.unwrap_or_default(),
        runtime_command,
        working_dir,
        scaling_config,
        image_pull_secrets,
        pod,
    })
}

fn name(fields: &Fields<'_>, violations: &mut Violations) -> Option<String> {
    if fields.get("name").is_none_or(|name| name.as_str().is_some_and(|name| name.trim().is_empty())) {
        violations.push("name", "Function name is required");
        return None;
    }
    let name = fields.text("name", violations)?;
    if Name::new(name).is_none() {
        violations.push("name", &format!("must match {NAME_PATTERN}"));
        return None;
    }
    Some(name.to_owned())
}

/// The alias counts only when the real name is absent.
fn timeout_field(fields: &Fields<'_>) -> &'static str {
    let by_alias = fields.get("timeoutMs").is_none() && fields.get("timeoutMillis").is_some();
    if by_alias { "timeoutMillis" } else { "timeoutMs" }
}

fn env_key_allowed(key: &str) -> bool {
    let start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    key.bytes().next().is_some_and(start) && key.bytes().all(|byte| start(byte) || byte.is_ascii_digit())
}

fn resources(fields: &Fields<'_>, violations: &mut Violations) -> Option<Resources> {
    let resources = fields.object("resources", violations)?;
    let mut amounts = |name| {
        let amounts = resources.object(name, violations)?;
        let cpu = amount(&amounts, "cpu", "250m", violations);
        Some(Amounts { cpu, memory: amount(&amounts, "memory", "128Mi", violations) })
    };
    let (requests, limits) = (amounts("requests"), amounts("limits"));
    Some(Resources {
        cpu: amount(&resources, "cpu", "250m", violations),
        memory: amount(&resources, "memory", "128Mi", violations),
        requests,
        limits,
    })
}

/// A quantity, such as `example`.
pub(super) fn amount(
    fields: &Fields<'_>,
    name: &str,
    example: &str,
    violations: &mut Violations,
) -> Option<String> {
    let text = fields.text(name, violations)?;
    if Quantity::parse(text).is_none() {
        violations.push(&fields.path(name), &format!("must be a Kubernetes quantity such as {example}"));
    }
    Some(text.to_owned())
}

fn endpoint_url(
    fields: &Fields<'_>,
    mode: Option<ExecutionMode>,
    violations: &mut Violations,
) -> Option<String> {
    // See the head of this file.
    if mode == Some(ExecutionMode::Deployment) && fields.get("deploymentBackend").is_some() {
        return None;
    }
    if mode == Some(ExecutionMode::Pool) && fields.get("endpointUrl").is_none() {
        violations.push("endpointUrl", "is required for POOL: give the URL that calls are posted to");
    }
    let url = fields.text("endpointUrl", violations)?;
    if let Some(message) = endpoint::violation(url) {
        violations.push("endpointUrl", message);
    }
    // What clients read back is where calls go.
    Some(endpoint::callable(url))
}

/// A blank command is no command.
fn runtime_command(fields: &Fields<'_>, violations: &mut Violations) -> Option<String> {
    let command = fields.text("runtimeCommand", violations).filter(|command| !command.trim().is_empty())?;
    match shlex::split(command) {
        Some(words) if words.is_empty() => {
            violations.push("runtimeCommand", "must name a program; a # starts a comment");
        }
        Some(_) => {}
        None => violations.push("runtimeCommand", "must be shell-style words: close every quote and escape"),
    }
    Some(command.to_owned())
}

fn working_dir(fields: &Fields<'_>, violations: &mut Violations) -> Option<String> {
    let directory = fields.text("workingDir", violations)?;
    if !directory.starts_with('/') {
        violations.push("workingDir", "must be an absolute path");
    }
    Some(directory.to_owned())
}

fn scaling_config(
    fields: &Fields<'_>,
    mode: Option<ExecutionMode>,
    violations: &mut Violations,
) -> Option<ScalingConfig> {
    let enforced = mode == Some(ExecutionMode::Deployment);
    match fields.get("scalingConfig") {
        None => enforced.then(ScalingConfig::default),
        Some(_) => fields
            .object("scalingConfig", violations)
            .map(|given| scaling::read(&given, enforced, violations)),
    }
}

/// Backends need something to run: an image, or with the process backend a program.
fn require_program(
    fields: &Fields<'_>,
    mode: Option<ExecutionMode>,
    registration: &Registration,
    violations: &mut Violations,
) {
    let runs = matches!(mode, Some(ExecutionMode::Deployment | ExecutionMode::Remote));
    if !runs || fields.get("image").is_some() {
        return;
    }
    let blank = |command: &Value| command.as_str().is_some_and(|command| command.trim().is_empty());
    if !registration.image_optional {
        violations.push("image", "is required, except for LOCAL and POOL: name a container image");
    } else if fields.get("runtimeCommand").is_none_or(blank) {
        violations
            .push("runtimeCommand", "is required without an image: name the program that runs the function");
    }
}
