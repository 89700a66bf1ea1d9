//! Metrics for HorizontalPodAutoscalers: who is answered, and what. The test is the cluster's API server here, and its front
//! proxy; `tests/k8s` has real ones.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use crate::support::{Call, DataDir, Function, Gate, Reply, Server, eventually};

const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/external_metrics/tls");
const GROUP: &str = "/apis/external.metrics.k8s.io";

/// What the API server of the test says, and was asked.
#[derive(Default)]
struct ApiServer {
    /// It takes no part any more.
    away: AtomicBool,
    reviews: AtomicUsize,
    reviewed: Mutex<Value>,
}

impl ApiServer {
    fn reply(&self, call: &Call) -> Reply {
        if self.away.load(Ordering::SeqCst) {
            return Reply::new(503, "text/plain", b"away");
        }
        if call.path.ends_with("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
        {
            let authority = fs::read_to_string(format!("{TLS}/proxies-authority.pem")).expect("a file");
            return Reply::json(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {
                "requestheader-client-ca-file": authority,
                "requestheader-allowed-names": r#"["front-proxy-client"]"#,
                "requestheader-username-headers": r#"["X-Remote-User"]"#,
                "requestheader-group-headers": r#"["X-Remote-Group"]"#,
                "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
            } }));
        }
        assert!(call.path.starts_with("/apis/authorization.k8s.io/v1/subjectaccessreviews"), "{}", call.path);
        let mut review = call.json();
        self.reviews.fetch_add(1, Ordering::SeqCst);
        *self.reviewed.lock().expect("no panic") = review["spec"].clone();
        let allowed = review["spec"]["user"] == "the-autoscaler";
        review["status"] = json!({ "allowed": allowed });
        Reply::json(review)
    }
}

/// A server, its cluster, and where it is asked.
struct Rig {
    server: Server,
    api_server: Arc<ApiServer>,
    address: String,
    files: DataDir,
}

impl Rig {
    fn start() -> Rig {
        let api_server = Arc::<ApiServer>::default();
        let replies = Arc::clone(&api_server);
        let cluster = Function::start(move |call| replies.reply(&call));
        let files = DataDir::new();
        fs::create_dir_all(files.path()).expect("writable");
        let file = |name: &str| files.path().join(name).display().to_string();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{}", cluster.address) } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u", "namespace": "functions" } }],
            "users": [{ "name": "u", "user": {} }],
        });
        fs::write(file("kubeconfig"), kubeconfig.to_string()).expect("writable");
        fs::copy(format!("{TLS}/server.pem"), file("certificate.pem")).expect("writable");
        let settings = [
            "async-queue.enabled=true".to_owned(),
            "k8s.external-metrics.bind=127.0.0.1:0".to_owned(),
            format!("k8s.kubeconfig={}", file("kubeconfig")),
            format!("k8s.external-metrics.certificate={}", file("certificate.pem")),
            format!("k8s.external-metrics.key={}", file("certificate.pem")),
        ];
        let server = Server::start(&settings.each_ref().map(String::as_str));
        server.logged(&["external metrics are served"]);
        let says_so = |line: &String| line.contains("questions about external metrics");
        let line = server.log().into_iter().find(says_so).expect("it says where");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let address = line["address"].as_str().expect("an address").to_owned();
        Rig { server, api_server, address, files }
    }

    fn ask_with(&self, certificate: &str, method: &str, path: &str, headers: &[&str]) -> (u16, Value) {
        let certificate = match certificate {
            "-" => "-".to_owned(),
            name => format!("{TLS}/{name}.pem"),
        };
        let script = format!("{TLS}/../ask.py");
        let authority = format!("{TLS}/server-authority.pem");
        let asked = Command::new("python3")
            .args([&script, &self.address, &authority, &certificate, method, path])
            .args(headers)
            .output()
            .expect("python3");
        let text = String::from_utf8(asked.stdout).expect("text");
        let (status, body) =
            text.trim().split_once(' ').unwrap_or_else(|| panic!("{text}: {:?}", asked.stderr));
        (status.parse().expect("a status"), serde_json::from_str(body).unwrap_or_else(|_| body.into()))
    }

    /// As the front proxy asks for somebody.
    fn ask(&self, path: &str) -> (u16, Value) {
        let headers = [
            "X-Remote-User: the-autoscaler",
            "X-Remote-Group: system:authenticated",
            "X-Remote-Extra-Scopes: metrics",
        ];
        self.ask_with("proxy", "GET", path, &headers)
    }

    fn value(&self, metric: &str, function: &str) -> Value {
        let (status, list) = self.ask(&values_of("functions", metric, function));
        assert_eq!((status, &list["kind"]), (200, &json!("ExternalMetricValueList")), "{list}");
        list["items"][0]["value"].clone()
    }
}

fn values_of(namespace: &str, metric: &str, function: &str) -> String {
    format!("{GROUP}/v1beta1/namespaces/{namespace}/{metric}?labelSelector=function%3D{function}")
}

#[test]
fn an_autoscaler_reads_what_waits_and_runs() {
    let rig = Rig::start();
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    // One with a name that is no value of a label.
    let long = format!("{}_long", "l".repeat(58));
    for name in ["resize", long.as_str()] {
        rig.server.register(json!({ "name": name, "executionMode": "POOL", "endpointUrl": function.url(),
                                    "concurrency": 1, "timeoutMs": 60000 }));
        for _ in 0..4 {
            assert_eq!(
                rig.server
                    .send("POST", &format!("/v1/functions/{name}:enqueue"), &json!({ "input": 1 }))
                    .status,
                202
            );
        }
    }
    eventually("one runs and three wait", || rig.value("nanofaas_queue_depth", "resize") == "3");
    assert_eq!(rig.value("nanofaas_in_flight", "resize"), "1");
    // A rate needs time between two questions.
    eventually("a rate", || !rig.value("nanofaas_rps", "resize").is_null());

    let (status, nothing) = rig.ask(&values_of("functions", "nanofaas_in_flight", "unknown"));
    assert_eq!((status, &nothing["items"]), (200, &json!([])));
    let (status, nothing) = rig.ask(&values_of("other", "nanofaas_in_flight", "resize"));
    assert_eq!((status, &nothing["items"]), (200, &json!([])), "functions are in one namespace");
    gate.open();
    eventually("nothing waits", || rig.value("nanofaas_queue_depth", "resize") == "0");
    eventually("nothing runs", || rig.value("nanofaas_in_flight", "resize") == "0");

    let (status, resources) = rig.ask(&format!("{GROUP}/v1beta1"));
    assert_eq!((status, &resources["kind"]), (200, &json!("APIResourceList")));
    let reviewed = rig.api_server.reviewed.lock().expect("no panic").clone();
    assert_eq!(reviewed["user"], "the-autoscaler");
    assert_eq!(reviewed["groups"], json!(["system:authenticated"]));
    assert_eq!(reviewed["extra"], json!({ "scopes": ["metrics"] }));
    assert_eq!(reviewed["resourceAttributes"]["group"], "external.metrics.k8s.io");
    // It is asked once for a while, not with every question.
    assert!(rig.api_server.reviews.load(Ordering::SeqCst) < 20);
}

#[test]
fn only_the_cluster_s_own_api_server_is_answered() {
    let rig = Rig::start();
    rig.server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    let path = values_of("functions", "nanofaas_in_flight", "f");
    let user = ["X-Remote-User: the-autoscaler"];
    for (certificate, headers, expected, why) in [
        ("proxy", &user[..], 200, ""),
        ("-", &user[..], 401, "ask the API server"),
        ("other", &user[..], 401, "somebody-else"),
        // Signed by somebody else: the connection itself fails.
        ("stranger", &user[..], 0, ""),
        ("proxy", &[][..], 401, "named nobody"),
        ("proxy", &["X-Remote-User: mallory"][..], 403, "mallory"),
    ] {
        let (status, body) = rig.ask_with(certificate, "GET", &path, headers);
        assert_eq!(status, expected, "{certificate} {headers:?}: {body}");
        if expected > 200 {
            assert_eq!((&body["kind"], &body["code"]), (&json!("Status"), &json!(expected)));
            assert!(body["message"].as_str().expect("a text").contains(why), "{body}");
        }
    }
    for (method, path, expected) in [
        ("POST", path.clone(), 405),
        (
            "GET",
            format!("{GROUP}/v1beta1/namespaces/functions/nanofaas_custom?labelSelector=function%3Df"),
            404,
        ),
        ("GET", format!("{GROUP}/v1beta1/namespaces/functions/nanofaas_rps"), 400),
        ("GET", "/openapi/v2".to_owned(), 404),
        ("GET", "/v1/functions".to_owned(), 404),
    ] {
        let (status, body) = rig.ask_with("proxy", method, &path, &user);
        assert_eq!((status, &body["code"]), (expected, &json!(expected)), "{method} {path}: {body}");
    }
    // Who was allowed is, for a while, also when nobody can be asked; others wait until somebody can.
    rig.api_server.away.store(true, Ordering::SeqCst);
    let (status, body) = rig.ask_with("proxy", "GET", &path, &["X-Remote-User: unknown"]);
    assert_eq!(status, 503, "{body}");
    assert!(body["message"].as_str().expect("a text").contains("did not say whether unknown may"), "{body}");
}

#[test]
fn without_a_certificate_the_server_does_not_start_and_with_a_wrong_one_says_so() {
    let bind = "k8s.external-metrics.bind=127.0.0.1:0";
    let (code, log) = Server::start_up("serve", &[bind], "true", None).end();
    assert_eq!(code, Some(64), "{log}");
    assert!(log.contains("k8s.external-metrics.certificate"), "{log}");
    let rig = Rig::start();
    fs::write(rig.files.path().join("certificate.pem"), "no certificate").expect("writable");
    let certificate = format!("k8s.external-metrics.certificate={TLS}/make.sh");
    let key = format!("k8s.external-metrics.key={TLS}/server.pem");
    let kubeconfig = format!("k8s.kubeconfig={}", rig.files.path().join("kubeconfig").display());
    assert!(Path::new(TLS).join("make.sh").exists());
    let server = Server::start(&[bind, &certificate, &key, &kubeconfig]);
    server.logged(&["external metrics", "the certificate holds no certificate"]);
}
