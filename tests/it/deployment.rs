//! Functions that the server runs itself, end to end. What backends do in detail is tested in `tests/backends`.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::support::{Server, client::encode, eventually};

/// Answers with its input and process id, as a program per call.
const PROGRAM: &str =
    "python3 -c 'import json,os,sys; print(json.dumps([json.load(sys.stdin)[\"input\"], os.getpid()]))'";

#[test]
fn a_program_becomes_a_function_and_goes_without_a_trace() {
    let mut server = Server::dev(&[]);
    let spec = json!({ "name": "echo", "runtimeCommand": PROGRAM, "runtimeMode": "STDIO" });
    let registered = server.register(spec.clone());
    assert_eq!(registered["deploymentBackend"], "process");
    assert_eq!(registered["effectiveExecutionMode"], "DEPLOYMENT");
    let response = server.invoke("echo", json!({ "x": 1 }));
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.json()["output"][0], json!({ "x": 1 }));

    let scaled = server.send("PUT", "/v1/functions/echo/replicas", &json!({ "replicas": 3 }));
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    let response = server.invoke("echo", json!(2));
    assert_eq!(response.status, 200, "{}", response.text());

    let removed = server.send("DELETE", "/v1/functions/echo", &json!(null));
    assert_eq!(removed.status, 204, "{}", removed.text());
    assert_eq!(children_of(server.pid()), 0);

    server.register(spec);
    assert_eq!(children_of(server.pid()), 1);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_program_that_cannot_start_is_refused_with_its_reason() {
    let server = Server::dev(&[]);
    let spec = json!({ "name": "f", "runtimeCommand": "sh -c 'echo the reason >&2; exit 3'" });
    let response = server.send("POST", "/v1/functions", &spec);
    let error = response.expect_error(503, "PROVISIONING_FAILED");
    assert!(error.to_string().contains("the reason"), "{error}");
    assert_eq!(server.get("/v1/functions/f").status, 404);
    assert_eq!(children_of(server.pid()), 0);
}

#[test]
fn no_process_outlives_a_killed_server() {
    let folder = Folder::new("killed");
    folder.link(own(), "nanofaas");
    end_by_a_kill(folder.server());
    folder.link(&small(), "nanofaas-watchdog");
    end_by_a_kill(folder.server());
}

fn end_by_a_kill(mut server: Server) {
    // One program per call with a grandchild that left its process group, one program for all calls.
    server.register(json!({ "name": "calls", "runtimeMode": "STDIO", "runtimeCommand": "sh -c 'setsid sleep 600 & wait'" }));
    server.register(json!({ "name": "serves", "runtimeMode": "HTTP", "runtimeCommand":
        "python3 -c 'import http.server as h, os\nclass H(h.BaseHTTPRequestHandler):\n def do_GET(self):\n  self.send_response(200); self.end_headers()\nh.ThreadingHTTPServer((\"127.0.0.1\", int(os.environ[\"PORT\"])), H).serve_forever()'" }));
    let mut caller = server.client();
    let body = br#"{"input":null}"#;
    caller.write(&encode(
        "POST",
        "/v1/functions/calls:invoke",
        &[("content-type", "application/json")],
        body,
    ));
    let mut processes = Vec::new();
    eventually("a call has started its programs", || {
        processes = descendants_of(server.pid());
        processes.iter().any(|pid| command_of(*pid).starts_with("sleep 600"))
            && processes.iter().any(|pid| command_of(*pid).contains("python3 -c"))
    });
    server.signal("KILL");
    assert_eq!(server.wait(), None);
    eventually("every process of the killed server is gone", || {
        processes.iter().all(|pid| command_of(*pid).is_empty())
    });
}

#[test]
fn replicas_run_under_the_small_watchdog_when_it_lies_beside_the_server() {
    let folder = Folder::new("beside");
    folder.link(own(), "nanofaas");
    let binary = |server: &Server| {
        server.register(json!({ "name": "echo", "runtimeMode": "STDIO", "runtimeCommand": PROGRAM }));
        assert_eq!(server.invoke("echo", json!(1)).json()["output"][0], 1);
        let replicas = descendants_of(server.pid());
        let binaries = replicas.iter().flat_map(|pid| std::fs::read_link(format!("/proc/{pid}/exe")));
        let binaries: BTreeSet<_> = binaries.map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(binaries.len(), 1, "guard and watchdog: {binaries:?}");
        binaries.first().unwrap().to_str().unwrap().trim_end_matches(" (deleted)").to_owned()
    };
    assert_eq!(binary(&folder.server()), "nanofaas", "one file is enough");

    folder.link("/bin/true".as_ref(), "nanofaas-watchdog");
    let server = folder.server();
    assert_eq!(binary(&server), "nanofaas", "what lies there is something else");
    server.logged(&["not the watchdog of this server"]);

    folder.link(&small(), "nanofaas-watchdog");
    let server = folder.server();
    std::fs::remove_file(folder.0.join("nanofaas-watchdog")).unwrap();
    assert_eq!(binary(&server), "nanofaas-watchdog", "deleted since (if it is an older one: `cargo build`)");
}

#[test]
fn replicas_with_calls_stay_when_there_are_to_be_fewer() {
    let server = Server::dev(&["autoscaler.enabled=false"]);
    let folder = Folder::new("fewer");
    // Which watchdog runs the program, once the file is there that the input names.
    let program = "python3 -c 'import json,os,sys,time\nname = json.load(sys.stdin)[\"input\"]\nwhile not os.path.exists(name): time.sleep(0.02)\nprint(os.getppid())'";
    server.register(json!({
        "name": "f", "runtimeMode": "STDIO", "runtimeCommand": program, "timeoutMs": 60_000,
        "scalingConfig": { "strategy": "NONE", "minReplicas": 4 },
    }));
    let ready = || server.get("/v1/functions/f/replicas").json()["ready"].clone();
    eventually("all are ready", || ready() == 4);
    let file = folder.0.join("go");
    let mut held: Vec<_> = (0..2).map(|_| server.begin("f", &[], json!(file))).collect();
    eventually("calls run", || server.metric("function_in_flight{function=\"f\"}") == 2.0);
    let scaled = server.send("PUT", "/v1/functions/f/replicas", &json!({ "replicas": 2 }));
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    eventually("two are left", || ready() == 2);
    std::fs::write(&file, "").unwrap();
    let busy: BTreeSet<u64> =
        held.iter_mut().map(|call| call.read().unwrap().json()["output"].as_u64().unwrap()).collect();
    assert_eq!(busy.len(), 2, "each has one");
    for _ in 0..10 {
        let output = server.invoke("f", json!(file)).json()["output"].clone();
        assert!(output.as_u64().is_some_and(|replica| busy.contains(&replica)), "{output}, not of {busy:?}");
    }
}

/// A folder that servers are started from, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Puts a binary into the folder, in the place of another one.
    fn link(&self, binary: &Path, name: &str) {
        let path = self.0.join(name);
        let _ = std::fs::remove_file(&path);
        // A link, as long as that is possible.
        std::fs::hard_link(binary, &path).or_else(|_| std::fs::copy(binary, &path).map(drop)).unwrap();
    }

    /// `nanofaas dev`, from here.
    fn server(&self) -> Server {
        let path = self.0.join("nanofaas");
        Server::start_up("dev", &[], &format!("exec '{}' \"$@\"", path.display()), None).ready()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn own() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_nanofaas"))
}

/// The small watchdog. It is another package's: Cargo does not build it for these tests alone.
fn small() -> PathBuf {
    let path = own().with_file_name("nanofaas-watchdog");
    assert!(path.exists(), "{} is missing: run `cargo build` first", path.display());
    path
}

/// A process's command line; empty once it is gone.
fn command_of(pid: u32) -> String {
    let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.replace('\0', " ")
}

/// Children, their children, and so on.
fn descendants_of(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    let further: Vec<u32> = children.iter().flat_map(|child| descendants_of(*child)).collect();
    [children, further].concat()
}

/// Replicas are children of the server.
fn children_of(pid: u32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running server").flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
    lists.flatten().map(|list| list.split_whitespace().count()).sum()
}
