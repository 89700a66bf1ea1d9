//! The OpenAPI document, as it is served at `/openapi.yaml`.
//!
//! It is written by hand at the root of the repository and compiled in, so a server always describes itself.

/// The document, YAML.
pub const DOCUMENT: &str = include_str!("../../openapi.yaml");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::DOCUMENT;
    use nanofaas_wire::function::{FunctionSpec, Registration};

    fn document() -> Value {
        serde_saphyr::from_str(DOCUMENT).unwrap()
    }

    fn at<'a>(document: &'a Value, pointer: &str) -> &'a Value {
        document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing"))
    }

    /// What a server with the process backend makes of a registration.
    fn registered(body: &Value) -> FunctionSpec {
        let registration = Registration {
            default_timeout_ms: 30_000,
            default_concurrency: 4,
            default_queue_size: 100,
            default_max_retries: 3,
            image_optional: true,
            pods: true,
        };
        FunctionSpec::parse(body.to_string().as_bytes(), &registration)
            .unwrap_or_else(|error| panic!("{body}: {error}"))
    }

    fn response(spec: &FunctionSpec) -> Value {
        serde_json::from_slice(&spec.document()).unwrap()
    }

    #[test]
    fn the_examples_of_registrations_give_the_examples_of_responses() {
        let document = document();
        let given =
            at(&document, "/paths/~1v1~1functions/post/requestBody/content/application~1json/examples");
        let answered =
            at(&document, "/paths/~1v1~1functions/post/responses/201/content/application~1json/examples");
        let got = |pointer| at(&document, pointer).get("example").unwrap();

        assert_eq!(&response(&registered(&given["pool"]["value"])), &answered["pool"]["value"]);
        assert_eq!(
            &response(&registered(&given["local"]["value"])),
            got("/paths/~1v1~1functions~1{name}/get/responses/200/content/application~1json")
        );
        let mut deployed = registered(&given["process"]["value"]);
        deployed.deployment_backend = Some("process".to_owned());
        deployed.endpoint_url = Some("http://127.0.0.1:41873/invoke".to_owned());
        assert_eq!(&response(&deployed), &answered["deployment"]["value"]);
        for example in given.as_object().unwrap().values() {
            registered(&example["value"]);
        }
    }

    fn members(object: &Value) -> BTreeSet<&str> {
        object.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn every_member_of_a_function_is_described() {
        let document = document();
        let mut full = registered(&serde_json::json!({
            "name": "f", "image": "i", "resources": {}, "rateLimitPerSecond": 1, "endpointUrl": "http://h",
            "runtimeMode": "HTTP", "runtimeCommand": "c", "workingDir": "/", "imagePullSecrets": [], "maxRetries": 2,
            "containerPort": 80, "healthPath": "", "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}],
            "topologySpreadConstraints": [{"topologyKey": "zone"}], "annotations": {"a": "b"}, "labels": {"a": "b"},
            "serviceAccountName": "a", "readOnlyRootFilesystem": true,
            "volumes": [{"name": "v", "mountPath": "/v", "emptyDir": {}}],
        }));
        full.deployment_backend = Some(String::new());
        full.degradation_reason = Some(String::new());
        let described = at(&document, "/components/schemas/FunctionResponse/properties");
        let mut members_of_answers = response(&full);
        // Only the answer to a registration has it.
        members_of_answers["warnings"] = serde_json::json!([]);
        assert_eq!(members(&members_of_answers), members(described));

        let bare = response(&registered(&serde_json::json!({"name": "f", "executionMode": "LOCAL"})));
        let required = at(&document, "/components/schemas/FunctionResponse/required").as_array().unwrap();
        assert_eq!(members(&bare), required.iter().filter_map(Value::as_str).collect());
    }
}
