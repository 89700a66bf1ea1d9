//! What functions find out about the environment of the server that runs them: nothing but what they are given.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Client, DataDir, Server};

/// Stands in variables of servers, and nowhere else.
const CANARY: &str = "canary-5c1f0b7e";

/// The same, of the one server whose functions look for it: those of others begin at any time.
const WANTED: &str = "wanted-9d27e3a4";

/// Looks into every process that there is, and at its own descriptors. What follows it differs between modes.
const SPY: &str = r#"
import json, os
def environ(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return None
def parent(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[1])
def look():
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    seen = {pid: environ(pid) for pid in pids}
    ancestors, pid = [], os.getpid()
    while pid > 0:
        ancestors.append(pid)
        pid = parent(pid)
    descriptors = []
    for number in range(3, 1024):
        try:
            descriptors.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    return {
        "tell-tales": [pid for pid, text in seen.items() if text and b"WANTED" in text],
        "ancestors": [pid for pid in ancestors if seen.get(pid) is not None],
        "descriptors": descriptors,
        "own": sorted(os.environ),
    }
"#;

const STDIO: &str = "print(json.dumps(look()))";
const FILE: &str = "found = look()\nopen(os.environ['OUTPUT_FILE'], 'w').write(json.dumps(found))";
const HTTP: &str = r#"
import http.server
# Before there are sockets of its own.
found = look()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *parts):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A development server whose shell did this before.
fn server(prelude: &str) -> Server {
    Server::start_up("dev", &[], prelude, None).ready()
}

/// What a function of this mode finds out.
fn spy(server: &Server, mode: &str) -> Value {
    let end = match mode {
        "STDIO" => STDIO,
        "FILE" => FILE,
        _ => HTTP,
    };
    // Built from halves, so that what is searched for does not stand in the function's own command or environment.
    let (first, second) = WANTED.split_at(6);
    let program = format!("{SPY}{end}").replace("b\"WANTED\"", &format!("b\"{first}\" + b\"{second}\""));
    let name = mode.to_lowercase();
    let spec = json!({ "name": name, "runtimeMode": mode, "runtimeCommand": "python3 -c \"exec(__import__('os').environ['PROGRAM'])\"",
        "env": { "PROGRAM": program, "ASKED_FOR": "x" } });
    server.register(spec);
    let response = server.invoke(&name, Value::Null);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["output"].take()
}

/// Names of the variables that a process was started with.
fn variables_of(pid: u32) -> BTreeSet<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).expect("a running server");
    let text = String::from_utf8_lossy(&bytes);
    text.split('\0').filter_map(|entry| Some(entry.split_once('=')?.0.to_owned())).collect()
}

/// What this process has open: a server may inherit it.
fn descriptors() -> Vec<Value> {
    let entries = fs::read_dir("/proc/self/fd").expect("our descriptors").flatten();
    entries.filter_map(|entry| Some(json!(fs::read_link(entry.path()).ok()?))).collect()
}

#[track_caller]
fn is_hidden(server: &Server) {
    let bytes = fs::read(format!("/proc/{}/environ", server.pid())).expect("a running server");
    assert!(!String::from_utf8_lossy(&bytes).contains(CANARY), "{:?}", variables_of(server.pid()));
}

#[test]
fn functions_find_nothing_of_the_servers_environment() {
    let server = server(&format!(
        "export NANOFAAS_DELIVERY_SECRET={WANTED} FOREIGN_TOKEN={WANTED} NANOFAAS_SOMETHING={WANTED} LC_TEST=passed-on"
    ));
    let ours = descriptors();
    for mode in ["STDIO", "FILE", "HTTP"] {
        let found = spy(&server, mode);
        assert_eq!(found["tell-tales"], json!([]), "{mode}: {found}");
        let ancestors = found["ancestors"].as_array().expect("a list");
        assert!(ancestors.contains(&json!(server.pid())), "{mode}: the server was not looked into: {found}");
        let descriptors = found["descriptors"].as_array().expect("a list");
        let added: Vec<_> = descriptors.iter().filter(|target| !ours.contains(*target)).collect();
        assert!(added.is_empty(), "{mode}: {added:?}");
        let own = found["own"].as_array().expect("a list");
        for name in ["ASKED_FOR", "LC_TEST", "PATH"] {
            assert!(own.contains(&json!(name)), "{mode}: {name} in {own:?}");
        }
    }
    // People find it by its name.
    let name = fs::read_to_string(format!("/proc/{}/comm", server.pid())).expect("a running server");
    assert_eq!(name.trim(), "nanofaas");
}

#[test]
fn settings_of_a_hidden_environment_count() {
    let server = server(&format!("export FOREIGN={CANARY} NANOFAAS_LIMITS_REQUEST_BYTES=2000"));
    is_hidden(&server);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    assert_eq!(server.invoke("f", json!("x".repeat(1000))).status, 200);
    server.invoke("f", json!("x".repeat(2000))).expect_error(413, "PAYLOAD_TOO_LARGE");
}

#[test]
fn an_environment_of_any_size_is_hidden_and_counts() {
    // Three times what one pipe holds, and files may not grow at all.
    let fill = "export FILL=$(head -c 100000 /dev/zero | tr '\\0' x); export MORE=$FILL";
    let setting = format!("export NANOFAAS_LIMITS_REQUEST_BYTES=2000 LAST={CANARY}; ulimit -S -f 0");
    let server = server(&format!("{fill}; {setting}"));
    is_hidden(&server);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    server.invoke("f", json!("x".repeat(2000))).expect_error(413, "PAYLOAD_TOO_LARGE");
}

#[test]
fn a_mark_that_was_inherited_changes_nothing() {
    let server = server(&format!("export NANOFAAS_HANDED_OVER=1 FOREIGN={CANARY}"));
    is_hidden(&server);
}

#[test]
fn a_mark_without_an_environment_is_refused() {
    let prelude = format!("export NANOFAAS_HANDED_OVER=$$ FOREIGN={CANARY}");
    let (code, log) = Server::start_up("serve", &[], &prelude, None).end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("start it without this variable"), "{log}");
}

#[test]
fn a_configuration_may_come_from_standard_input() {
    // What carries the environment over takes the place of standard input for a moment.
    let prelude = format!(
        "export FOREIGN={CANARY}; set -- \"$@\" --config /dev/stdin; exec 0<<END\nlimits.request-bytes = 2000\nEND\ntrue"
    );
    let server = server(&prelude);
    is_hidden(&server);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    server.invoke("f", json!("x".repeat(2000))).expect_error(413, "PAYLOAD_TOO_LARGE");
}

#[test]
fn a_demo_hides_its_environment_and_hands_it_to_its_server() {
    let folder = DataDir::new();
    let example = folder.path().join("f");
    fs::create_dir_all(&example).expect("a folder");
    fs::write(example.join("function.yaml"), "name: f\nexecutionMode: LOCAL\n").expect("a file");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_nanofaas"));
    demo.args(["demo", "--port", "0", "--management-port", "0", "--examples"]).arg(folder.path());
    demo.env("FOREIGN", CANARY).env("NANOFAAS_ADMIN_RUNTIME_CONFIG_ENABLED", "false");
    let demo = demo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut demo = demo.expect("the binary starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let address = lines.find_map(|line| Some(line.strip_prefix("API ")?.trim().to_owned()));
    let server = children_of(demo.id());
    let seen: Vec<_> = [&server[..], &[demo.id()]].concat().into_iter().map(variables_of).collect();
    let address = address.as_deref().and_then(|address| address.strip_prefix("http://")?.parse().ok());
    let admin =
        address.map(|address| Client::connect(address).send("GET", "/v1/admin/runtime-config", &[], b""));
    // It ends before anything is judged, and its server with it.
    let ended = Command::new("kill").arg(demo.id().to_string()).status().expect("kill runs");
    assert!(ended.success() && demo.wait().is_ok());
    assert_eq!(seen.len(), 2, "a demo and its server");
    assert!(seen.iter().all(|names| names.contains("PATH") && !names.contains("FOREIGN")), "{seen:?}");
    assert_eq!(admin.expect("it told its address").status, 404, "the setting did not reach the server");
}

fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
    children.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
}
