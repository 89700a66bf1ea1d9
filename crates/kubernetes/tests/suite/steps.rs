//! What is to be done about a function, for all that a resource and what is registered may be.

use std::time::Duration;

use nanofaas_kubernetes::{
    resources::{
        object::Function,
        table::{Failed, Registered, ResourceTable, Step},
    },
    watching::News,
};
use nanofaas_wire::function::FunctionSpec;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::golden::REGISTRATION;

fn parsed(body: &Value) -> Result<FunctionSpec, Vec<String>> {
    FunctionSpec::parse(body.to_string().as_bytes(), &REGISTRATION).map_err(|error| error.into_lines())
}

/// A resource of this generation whose status says so much.
fn resource(spec: Value, generation: u64, status: Value) -> Function {
    let metadata = json!({ "name": "f", "uid": "u", "generation": generation, "resourceVersion": "5" });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec, "status": status })).unwrap()
}

fn table(object: Option<Function>) -> ResourceTable {
    let mut table = ResourceTable::new("here".to_owned());
    let objects = object.into_iter().collect();
    table.hear(News::All { objects, resource_version: "9".to_owned() });
    table
}

fn step(table: &ResourceTable, registered: Option<&Value>) -> Step {
    let registered =
        registered.map(|body| Registered { spec: parsed(body).unwrap(), replicas: Some((1, 1)) });
    let described = table.of("f").first().map(|owner| parsed(&owner.object.body()));
    table.step("f", registered.as_ref(), described.as_ref(), Instant::now())
}

#[test]
fn each_difference_has_its_step() {
    let spec = json!({ "image": "i" });
    let digest = resource(spec.clone(), 1, json!({})).digest();
    let same = json!({ "name": "f", "image": "i" });
    let other = json!({ "name": "f", "image": "j" });
    let told = |generation: u64, digest: &str| json!({ "installation": "here", "observedGeneration": generation, "observedSpec": digest, "conditions": [] });
    let scaled = json!({ "image": "i", "replicas": 3 });
    let invalid = json!({ "image": "i", "runtimeCommand": "'" });
    for (case, spec, generation, status, registered, expected) in [
        ("new", &spec, 1, json!({}), None, Step::Claim),
        ("claimed", &spec, 1, json!({ "installation": "here" }), None, Step::Register),
        ("lost", &spec, 1, told(1, &digest), None, Step::Register),
        ("settled", &spec, 1, told(1, &digest), Some(&same), Step::Rest),
        ("whatever it is", &spec, 1, told(1, &digest), Some(&other), Step::Rest),
        ("found as it is", &spec, 1, json!({}), Some(&same), Step::Observe),
        ("found otherwise", &spec, 1, json!({}), Some(&other), Step::Replace),
        ("changed", &spec, 2, told(1, "0000"), Some(&same), Step::Replace),
        ("scaled", &scaled, 2, told(1, &digest), Some(&same), Step::Scale(3)),
        ("scaled and told", &scaled, 2, told(2, &digest), Some(&same), Step::Rest),
        ("touched", &spec, 2, told(1, &digest), Some(&same), Step::Observe),
        ("invalid", &invalid, 1, json!({}), None, Step::Refuse),
        ("became invalid", &invalid, 2, told(1, &digest), Some(&same), Step::Refuse),
    ] {
        let table = table(Some(resource(spec.clone(), generation, status)));
        assert_eq!(step(&table, registered), expected, "{case}");
    }
    assert_eq!(step(&table(None), None), Step::Rest);
    assert_eq!(step(&table(None), Some(&same)), Step::Remove);
    let mut before = table(None);
    before.unwritten().insert("f".to_owned());
    assert_eq!(step(&before, Some(&same)), Step::Write);
}

#[test]
fn what_failed_waits_until_it_is_due_or_the_resource_changes() {
    let spec = json!({ "image": "i" });
    let now = Instant::now();
    let late = now + Duration::from_secs(60);
    for (tries, due, generation, expected) in [
        (Some(1), now, 1, Step::Register),
        (Some(1), late, 1, Step::Rest),
        (None, now, 1, Step::Rest),
        (None, now, 0, Step::Register),
    ] {
        let mut table = table(Some(resource(spec.clone(), 1, json!({ "installation": "here" }))));
        table.get("f").unwrap().failed =
            Some(Failed { generation, reason: "X".to_owned(), message: String::new(), tries, due });
        assert_eq!(step(&table, None), expected, "{tries:?} {generation}");
    }
}

#[test]
fn a_resource_is_one_server_s() {
    let of = |label: Option<&str>, status: Option<&str>| {
        let mut object = resource(json!({ "image": "i" }), 1, json!({}));
        object.status.installation = status.map(str::to_owned);
        object.metadata.labels =
            label.map(|label| [("nanofaas.io/installation".to_owned(), label.to_owned())].into());
        table(Some(object)).functions().count()
    };
    for (label, status, count) in [
        (None, None, 1),
        (None, Some("here"), 1),
        (None, Some("there"), 0),
        (Some("there"), None, 0),
        (Some("here"), Some("there"), 1),
        (Some("there"), Some("here"), 0),
    ] {
        assert_eq!(of(label, status), count, "{label:?} {status:?}");
    }
}

#[test]
fn what_is_late_counts_for_nothing() {
    let at = |revision: &str, uid: &str| {
        let mut object = resource(json!({ "image": "i" }), 1, json!({}));
        object.metadata.resource_version = Some(revision.to_owned());
        object.metadata.uid = Some(uid.to_owned());
        object
    };
    let mut table = table(Some(at("5", "a")));
    assert!(table.hear(News::Now(Box::new(at("4", "a")))).is_empty());
    assert_eq!(table.hear(News::Now(Box::new(at("6", "a")))).len(), 1);
    // A list that was begun before this one was made.
    table.hear(News::Gone(Box::new(at("7", "a"))));
    table.now(at("12", "b"));
    table.hear(News::All { objects: Vec::new(), resource_version: "11".to_owned() });
    assert_eq!(table.functions().count(), 1);
    // The end of the one before.
    table.hear(News::Gone(Box::new(at("7", "a"))));
    assert_eq!(table.functions().count(), 1);
    table.delete("f", "b");
    assert!(table.hear(News::Now(Box::new(at("13", "b")))).is_empty(), "it was deleted");
    assert_eq!(table.functions().count(), 0);
    table.hear(News::Gone(Box::new(at("14", "b"))));
    assert_eq!(table.hear(News::Now(Box::new(at("15", "c")))).len(), 1);
    table.hear(News::All { objects: Vec::new(), resource_version: "16".to_owned() });
    assert_eq!(table.functions().count(), 0);
}
