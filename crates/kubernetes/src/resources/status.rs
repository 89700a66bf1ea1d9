//! What is told about a resource. Pure.

use super::{
    object::{Condition, Status},
    table::{KnownResource, Phase, Registered},
};
use crate::names::{FUNCTION, INSTALLATION, label_value};
use nanofaas_backends::Version;

/// Longest message of a condition, in bytes.
const MESSAGE_MAX: usize = 4096;
const READY: &str = "Ready";
const PROGRESSING: &str = "Progressing";

/// What does not depend on a resource.
#[derive(Debug, Clone)]
pub struct StatusSettings {
    /// The server.
    pub installation: String,
    /// Where its API is.
    pub api_url: Option<String>,
}

/// Whether it is so, why, and in words.
type Said = (&'static str, String, String);

/// What is to be told about a resource; `conflict`: another resource describes the same function.
pub fn status(
    known: &KnownResource,
    registered: Option<&Registered>,
    conflict: Option<&str>,
    settings: &StatusSettings,
    now: &str,
) -> Status {
    let object = &known.object;
    let function = object.function();
    let registered = registered.filter(|_| conflict.is_none());
    let ready = ready(known, registered, conflict);
    let progressing = progressing(known);
    let replicas = registered.and_then(|registered| registered.replicas);
    let condition = |kind: &str, (status, reason, message): Said| {
        let old = object.status.conditions.iter().find(|old| old.kind == kind && old.status == status);
        Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            observed_generation: Some(object.generation()),
            last_transition_time: old.map_or(now, |old| &old.last_transition_time).to_owned(),
            reason,
            message: shortened(message),
        }
    };
    Status {
        installation: Some(settings.installation.clone()),
        observed_generation: known.observed.as_ref().map(|observed| observed.generation),
        observed_spec: known.observed.as_ref().map(|observed| observed.digest.clone()),
        version: registered.map(|registered| Version::of(&registered.spec).as_str().to_owned()),
        replicas: replicas.map(|(wanted, _)| wanted),
        ready_replicas: replicas.map(|(_, ready)| ready),
        selector: replicas.map(|_| {
            format!("{FUNCTION}={},{INSTALLATION}={}", label_value(function), settings.installation)
        }),
        url: registered
            .and(settings.api_url.as_ref())
            .map(|url| format!("{}/v1/functions/{function}:invoke", url.trim_end_matches('/'))),
        conditions: vec![condition(READY, ready), condition(PROGRESSING, progressing)],
    }
}

fn ready(known: &KnownResource, registered: Option<&Registered>, conflict: Option<&str>) -> Said {
    let object = &known.object;
    if let Some(other) = conflict {
        let function = object.function();
        let message = format!(
            "Function '{function}' is that of the resource '{other}', which is older; delete one of them, or give this one another name"
        );
        return ("False", "CONFLICT".to_owned(), message);
    }
    let failed = known.failed.as_ref().filter(|failed| failed.generation == object.generation());
    match (failed, registered) {
        (Some(failed), Some(_)) => {
            let message = format!("{}. The function runs on as it was before the change", failed.message);
            ("False", failed.reason.clone(), message)
        }
        (Some(failed), None) => ("False", failed.reason.clone(), failed.message.clone()),
        (None, None) => ("False", "Registering".to_owned(), "The function is not registered yet".to_owned()),
        (None, Some(registered)) => match registered.replicas {
            Some((wanted, 0)) if wanted > 0 => {
                ("False", "NoReplicas".to_owned(), "No replica takes calls; calls wait for one".to_owned())
            }
            Some((0, _)) => {
                let message = "The first call starts a replica".to_owned();
                ("True", "ScaledToZero".to_owned(), with_warnings(message, &known.warnings))
            }
            _ => {
                let message = "The function takes calls".to_owned();
                ("True", "Registered".to_owned(), with_warnings(message, &known.warnings))
            }
        },
    }
}

fn progressing(known: &KnownResource) -> Said {
    let failed = known.failed.as_ref().filter(|failed| failed.generation == known.object.generation());
    let said = |status, reason: &str, message: &str| (status, reason.to_owned(), message.to_owned());
    match (known.phase, failed) {
        (Phase::Replacing, _) => said(
            "True",
            "Replacing",
            "The resource has changed: the function is removed and registered anew; calls that waited end",
        ),
        (Phase::Registering, _) => said("True", "Registering", "The function is being registered"),
        (Phase::Idle, Some(failed)) if failed.tries.is_some() => {
            said("True", "Retrying", "It is tried again by itself, after longer and longer pauses")
        }
        (Phase::Idle, Some(_)) => said("False", "Failed", "Nothing is done before the resource changes"),
        (Phase::Idle, None) => said("False", "Settled", "Nothing is to be done"),
    }
}

fn with_warnings(message: String, warnings: &[String]) -> String {
    match warnings {
        [] => message,
        warnings => format!("{message}. Said in vain: {}", warnings.join("; ")),
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_MAX));
        message.push('…');
    }
    message
}
