//! The CustomResourceDefinition of functions, made from the registration in `openapi.yaml`. What a schema of Kubernetes cannot
//! say (defaults that depend on the server, null, keys of maps) is left out, or is a rule in CEL. The result is a file of the
//! chart, which `nanofaas crd` prints as well.

use std::{collections::BTreeSet, fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use nanofaas_wire::function::KNOWN;
use serde_json::{Map, Value, json};

/// Another name of `timeoutMs`, for old clients.
const ALIAS: &str = "timeoutMillis";
/// What makes up a schema, of what the API's description has.
const KEPT: [&str; 8] =
    ["type", "description", "pattern", "enum", "minimum", "maximum", "required", "maxLength"];
/// Bounds, without which the API server holds rules about what is in a list or a map to be too expensive.
const ITEMS_MAX: u32 = 64;
const ENV_MAX: u32 = 512;

fn file(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A schema of the API as one of Kubernetes.
fn schema(all: &Value, given: &Value) -> Value {
    if let Some(name) = given["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return schema(all, &all[name]);
    }
    if let Some(inner) = given["oneOf"].as_array().and_then(|of| of.iter().find(|one| one["type"] != "null"))
    {
        let mut schema = schema(all, inner);
        if let Some(text) = given.get("description") {
            schema["description"] = text.clone();
        }
        return schema;
    }
    let mut made = Map::new();
    for key in KEPT {
        if let Some(value) = given.get(key) {
            made.insert(key.to_owned(), value.clone());
        }
    }
    let mut made = Value::Object(made);
    if let Some(text) = given["description"].as_str() {
        made["description"] = text.split_whitespace().collect::<Vec<_>>().join(" ").into();
    }
    if let Some(types) = given["type"].as_array() {
        made["type"] = types.iter().find(|of| **of != "null").expect("a type").clone();
    }
    if let Some(values) = given["enum"].as_array() {
        made["enum"] = values.iter().filter(|value| !value.is_null()).cloned().collect();
        made["type"] = "string".into();
    }
    if made["type"] == "integer" {
        made["format"] = "int64".into();
    }
    if let Some(items) = given.get("items") {
        made["items"] = schema(all, items);
        made["maxItems"] = ITEMS_MAX.into();
    }
    if let Some(values) = given.get("additionalProperties") {
        made["additionalProperties"] = schema(all, values);
        made["maxProperties"] = ITEMS_MAX.into();
    }
    for (name, member) in given["properties"].as_object().into_iter().flatten() {
        made["properties"][name] = schema(all, member);
    }
    made
}

fn rules(schema: &mut Value, rules: &[(&str, &str)]) {
    let rules: Vec<Value> =
        rules.iter().map(|(rule, message)| json!({ "rule": rule, "message": message })).collect();
    schema["x-kubernetes-validations"] = rules.into();
}

/// What a registration may be, and what only Kubernetes needs.
fn spec(all: &Value) -> Value {
    let mut spec = schema(all, &all["FunctionSpec"]);
    let members = spec["properties"].as_object_mut().expect("members");
    members.remove(ALIAS);
    spec["required"] = Value::Null;
    let text = "Name of the function, when it is not that of the resource. It cannot be changed.";
    spec["properties"]["name"]["description"] = text.into();
    spec["properties"]["replicas"] = json!({
        "type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX,
        "description": "How many replicas run from now on, as PUT /v1/functions/{name}/replicas says it. What kubectl scale \
            sets. An autoscaler of the function may decide otherwise.",
    });
    spec.as_object_mut().expect("a schema").remove("required");
    let runs = "!has(self.executionMode) || self.executionMode == 'DEPLOYMENT'";
    rules(
        &mut spec,
        &[
            (
                "has(self.image) || has(self.runtimeCommand) || (has(self.executionMode) && self.executionMode in ['LOCAL', 'POOL'])",
                "image: is required, except for LOCAL and POOL",
            ),
            (
                "has(self.endpointUrl) || !has(self.executionMode) || self.executionMode != 'POOL'",
                "endpointUrl: is required for POOL",
            ),
            (
                "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)",
                "name: cannot be changed; make another resource",
            ),
            (
                &format!(
                    "!has(self.scalingConfig) || !({runs}) || (has(self.scalingConfig.minReplicas) ? self.scalingConfig.minReplicas : 1) \
                 <= (has(self.scalingConfig.maxReplicas) ? self.scalingConfig.maxReplicas : 10)"
                ),
                "scalingConfig.minReplicas: minReplicas must be <= maxReplicas",
            ),
            (
                &format!(
                    "!has(self.scalingConfig) || !has(self.scalingConfig.metrics) || !({runs}) || (has(self.scalingConfig.strategy) && \
                 self.scalingConfig.strategy != 'INTERNAL') || self.scalingConfig.metrics.all(m, m.type in ['queue_depth', \
                 'in_flight', 'rps'])"
                ),
                "scalingConfig.metrics: with INTERNAL, types are queue_depth, in_flight and rps",
            ),
        ],
    );
    let members = &mut spec["properties"];
    members["env"]["maxProperties"] = ENV_MAX.into();
    rules(
        &mut members["env"],
        &[(
            "self.all(key, key.matches('^[A-Za-z_][A-Za-z0-9_]*$'))",
            "env: names are letters, digits and '_', and begin with no digit",
        )],
    );
    for name in ["labels", "annotations"] {
        let message = format!("{name}: has a key that is set by the server");
        rules(
            &mut members[name],
            &[(
                "self.all(key, !key.startsWith('nanofaas.io/') && !key.startsWith('controller.kubernetes.io/') && \
             !(key in ['app', 'function', 'app.kubernetes.io/managed-by']))",
                &message,
            )],
        );
    }
    rules(
        &mut members["tolerations"]["items"],
        &[(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "key: is required, except with operator Exists: then it stands for every taint",
        )],
    );
    members["volumes"]["x-kubernetes-list-type"] = "map".into();
    members["volumes"]["x-kubernetes-list-map-keys"] = json!(["name"]);
    rules(
        &mut members["volumes"]["items"],
        &[
            (
                "(has(self.configMap) ? 1 : 0) + (has(self.secret) ? 1 : 0) + (has(self.emptyDir) ? 1 : 0) + \
             (has(self.persistentVolumeClaim) ? 1 : 0) == 1",
                "must have exactly one of configMap, secret, emptyDir, persistentVolumeClaim",
            ),
            ("self.name != 'tmp'", "name: must not be tmp, which every replica has"),
            (
                "self.mountPath != '/tmp' && self.mountPath != '/tmp' + '/'",
                "mountPath: must not be /tmp, where every replica has an empty folder",
            ),
        ],
    );
    spec
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn integer(description: &str) -> Value {
    json!({ "type": "integer", "format": "int64", "description": description })
}

fn status() -> Value {
    let condition = json!({
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": text("Ready or Progressing."),
            "status": { "type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it is so." },
            "observedGeneration": integer("Of which generation of the resource that is said."),
            "lastTransitionTime": { "type": "string", "format": "date-time", "description": "When the status changed." },
            "reason": text("A code, as in the answers of the HTTP API."),
            "message": text("What happened, and what to do."),
        },
    });
    json!({
        "type": "object",
        "description": "What became of it. Written by the server only.",
        "properties": {
            "installation": text("The server that has this function."),
            "observedGeneration": integer("The generation that the server has acted on."),
            "observedSpec": text("A digest of the spec that the function was registered with."),
            "version": text("A digest of the registration, as the Pods carry it."),
            "replicas": integer("How many replicas are to run."),
            "readyReplicas": integer("How many take calls."),
            "selector": text("Selects its Pods."),
            "url": text("Where it is called."),
            "conditions": {
                "type": "array",
                "description": "Whether it takes calls (Ready), and whether something is being done about it (Progressing).",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        },
    })
}

fn definition() -> Value {
    let api: Value = serde_saphyr::from_str(&fs::read_to_string(file("openapi.yaml")).unwrap()).unwrap();
    let column = |name: &str, kind: &str, path: &str, priority: u32| json!({ "name": name, "type": kind, "jsonPath": path, "priority": priority });
    let ready = ".status.conditions[?(@.type==\"Ready\")]";
    let mut root = json!({
        "type": "object",
        "description": "A function of nanofaas. Its spec is what POST /v1/functions takes.",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string" }, "kind": { "type": "string" }, "metadata": { "type": "object" },
            "spec": spec(&api["components"]["schemas"]), "status": status(),
        },
    });
    rules(
        &mut root,
        &[(
            "has(self.spec.name) || self.metadata.name.matches('^[a-z][a-z0-9.-]{0,62}$')",
            "metadata.name: the name of a function is a letter and up to 62 letters, digits, '.', '_' and '-'; give spec.name, or \
         another name",
        )],
    );
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "functions.nanofaas.dev",
            // Who uninstalls a server does not mean to delete the functions of all namespaces.
            "annotations": { "helm.sh/resource-policy": "keep" },
        },
        "spec": {
            "group": "nanofaas.dev",
            "scope": "Namespaced",
            "names": {
                "kind": "Function", "listKind": "FunctionList", "plural": "functions", "singular": "function",
                "shortNames": ["nf"], "categories": ["nanofaas"],
            },
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "additionalPrinterColumns": [
                    column("Ready", "string", &format!("{ready}.status"), 0),
                    column("Reason", "string", &format!("{ready}.reason"), 0),
                    column("Replicas", "integer", ".status.replicas", 0),
                    column("Available", "integer", ".status.readyReplicas", 0),
                    column("Age", "date", ".metadata.creationTimestamp", 0),
                    column("Version", "string", ".status.version", 1),
                    column("URL", "string", ".status.url", 1),
                    column("Message", "string", &format!("{ready}.message"), 1),
                ],
                "schema": { "openAPIV3Schema": root },
            }],
        },
    })
}

#[test]
fn the_definition_in_the_chart_is_made_from_the_description_of_the_api() {
    let definition = definition();
    let _: CustomResourceDefinition = serde_json::from_value(definition.clone()).unwrap();
    let text = format!(
        "# Made from openapi.yaml by crates/kubernetes/tests/suite/definition.rs. `nanofaas crd` prints it.\n{}",
        serde_saphyr::to_string(&definition).unwrap()
    );
    let path = file("deploy/helm/nanofaas/crd/functions.yaml");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "UPDATE=1 writes it anew");
}

/// Paths of all members, as [`KNOWN`] has them.
fn paths(schema: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        paths(member, &format!("{path}."), into);
        paths(&member["items"], &format!("{path}."), into);
        into.insert(path);
    }
}

#[test]
fn every_field_of_a_registration_is_in_the_definition() {
    let definition = definition();
    let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut found = BTreeSet::new();
    paths(spec, "", &mut found);
    assert!(found.remove("replicas"));
    let known: BTreeSet<String> =
        KNOWN.iter().filter(|name| **name != ALIAS).map(|name| (*name).to_owned()).collect();
    assert_eq!(found, known);
}
