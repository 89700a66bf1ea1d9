//! A function as the spec of a resource of Kubernetes: what a registration would have to say for this function to come out.

use serde_json::{Map, Value};

use super::{ExecutionMode, FunctionSpec, Registration, SpecError};

/// What only responses have.
const RESPONSE_ONLY: [&str; 4] =
    ["requestedExecutionMode", "effectiveExecutionMode", "deploymentBackend", "degradationReason"];

impl FunctionSpec {
    /// A registration that this function comes out of, with its name. Nothing in it is null, which Kubernetes would drop.
    pub fn registration(&self) -> Map<String, Value> {
        let Ok(Value::Object(mut members)) = serde_json::to_value(self) else { return Map::new() };
        members.retain(|name, _| !RESPONSE_ONLY.contains(&name.as_str()));
        // The address of a replica, and not one that was asked for.
        if self.execution_mode == ExecutionMode::Deployment && self.deployment_backend.is_some() {
            members.remove("endpointUrl");
        }
        members.values_mut().for_each(drop_nulls);
        members.retain(|_, value| !value.is_null());
        members
    }

    /// Whether both were asked for in the same words. What the server found out does not count, nor an address that a
    /// function with replicas falls back to: what is registered does not tell it any more.
    pub fn is_same_registration(&self, other: &FunctionSpec) -> bool {
        let asked = |spec: &FunctionSpec| {
            let mut members = spec.registration();
            if spec.execution_mode == ExecutionMode::Deployment {
                members.remove("endpointUrl");
            }
            members
        };
        asked(self) == asked(other)
    }

    /// What a registration is resolved against to compare it with this function: defaults that have changed since are no
    /// change of the function.
    pub fn defaults(&self, now: &Registration) -> Registration {
        Registration {
            default_timeout_ms: self.timeout_ms,
            default_concurrency: self.concurrency,
            default_queue_size: self.queue_size,
            default_max_retries: self.default_max_retries,
            ..*now
        }
    }
}

impl SpecError {
    /// One line per violation.
    pub fn into_lines(self) -> Vec<String> {
        match self {
            SpecError::Malformed(line) => vec![line],
            SpecError::Invalid(lines) => lines,
        }
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRATION: Registration = Registration {
        default_timeout_ms: 30_000,
        default_concurrency: 4,
        default_queue_size: 100,
        default_max_retries: 3,
        image_optional: true,
        pods: true,
    };

    #[test]
    fn a_function_comes_out_of_its_registration_again() {
        for body in [
            r#"{"name":"f","image":"i"}"#,
            r#"{"name":"f","executionMode":"LOCAL"}"#,
            r#"{"name":"f","executionMode":"POOL","endpointUrl":"http://h","maxRetries":0,"rateLimitPerSecond":5}"#,
            r#"{"name":"f","image":"i","resources":{"cpu":"1","limits":{"memory":"1Gi"}},"env":{"A":"b"},
                "scalingConfig":{"strategy":"HPA","metrics":[{"type":"cpu","target":"50"}],
                "concurrencyControl":{"mode":"STATIC_PER_POD"}},"volumes":[{"name":"v","mountPath":"/v","emptyDir":{}}],
                "tolerations":[{"operator":"Exists"}],"readOnlyRootFilesystem":false,"healthPath":""}"#,
        ] {
            let spec = FunctionSpec::parse(body.as_bytes(), &REGISTRATION).unwrap();
            let mut running = spec.clone();
            running.default_max_retries = 7;
            if spec.execution_mode == ExecutionMode::Deployment {
                running.deployment_backend = Some("k8s".to_owned());
                running.endpoint_url = Some("http://10.0.0.1:8080/invoke".to_owned());
            }
            let written = Value::Object(running.registration()).to_string();
            assert!(!written.contains("null") && !written.contains("10.0.0.1"), "{written}");
            let other = Registration { default_concurrency: 9, default_timeout_ms: 1, ..REGISTRATION };
            let (again, warnings) =
                FunctionSpec::parse_with_warnings(written.as_bytes(), &other, true).unwrap();
            assert_eq!(warnings, Vec::<String>::new());
            assert_eq!(again, spec);
            assert!(again.is_same_registration(&running));
            let changed = FunctionSpec { concurrency: 5, ..spec };
            assert!(!changed.is_same_registration(&running));
            // What the registration did not say is compared as it was.
            let short = FunctionSpec::parse(body.as_bytes(), &running.defaults(&other)).unwrap();
            assert!(short.is_same_registration(&running));
        }
    }
}
