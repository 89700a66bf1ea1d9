//! Everything at once, for a few seconds; afterwards every account balances.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Client, Function, Reply, Server, client::encode, eventually, pace};

const CLIENTS: u64 = 32;
const FUNCTIONS: [&str; 6] = ["ant", "bee", "cat", "dog", "eel", "fox"];
const STRESS_TIME: Duration = Duration::from_secs(5);

/// SplitMix64: enough chance for a test, and the same one again for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

/// Answers in every way there is; the input says how.
fn function() -> Function {
    let seed = AtomicU64::new(1);
    Function::start(move |call| {
        let mut chance = Chance(seed.fetch_add(1, Ordering::Relaxed));
        match chance.below(10) {
            0 => Reply::new(500, "text/plain", b"no"),
            1 => Reply::new(503, "", b"").with("retry-after", "0"),
            2 => Reply::new(400, "", b"never again"),
            3 => {
                pace(Duration::from_millis(chance.below(120)));
                Reply::json(json!("slow"))
            }
            // Promised and never kept: an orphan.
            4 if chance.below(4) == 0 => Reply::new(202, "", b"").with("x-nanofaas-async", "true"),
            5 => Reply::new(200, "image/png", b"png"),
            6 => Reply::new(200, "application/json", b"{").with("connection", "close"),
            _ => Reply::new(200, "application/json", &call.body),
        }
    })
}

fn spec(name: &str, url: &str, chance: &mut Chance) -> Value {
    let mut spec = json!({
        "name": name, "executionMode": "POOL", "endpointUrl": url,
        "concurrency": 1 + chance.below(6), "queueSize": 1 + chance.below(20), "maxRetries": chance.below(4),
        "timeoutMs": 50 + chance.below(200), "retryBackoffMs": chance.below(30),
    });
    if chance.below(4) == 0 {
        spec["executionMode"] = json!("LOCAL");
    }
    spec
}

/// One client's life: it does whatever comes to its mind. Counts answers by status.
fn live(server: &Server, url: &str, seed: u64, answers: &[AtomicUsize; 600]) {
    let mut chance = Chance(seed << 32);
    let started = Instant::now();
    let mut client = server.client();
    let mut last_id = "00000000-0000-4000-8000-000000000000".to_owned();
    while started.elapsed() < STRESS_TIME {
        let name = FUNCTIONS[chance.below(6) as usize];
        let body = json!({ "input": "x".repeat(chance.below(3000) as usize) }).to_string().into_bytes();
        let key = chance.below(20).to_string();
        let timeout = (1 + chance.below(300)).to_string();
        let mut headers = vec![("content-type", "application/json")];
        if chance.below(4) == 0 {
            headers.push(("idempotency-key", &key));
        }
        if chance.below(3) == 0 {
            headers.push(("x-timeout-ms", &timeout));
        }
        let (method, path, body) = match chance.below(40) {
            0 => ("DELETE", format!("/v1/functions/{name}"), Vec::new()),
            1..4 => {
                ("POST", "/v1/functions".to_owned(), spec(name, url, &mut chance).to_string().into_bytes())
            }
            4 => ("GET", "/v1/functions".to_owned(), Vec::new()),
            5..8 => ("GET", format!("/v1/executions/{last_id}"), Vec::new()),
            8..10 => ("DELETE", format!("/v1/executions/{last_id}"), Vec::new()),
            10..12 => {
                let path = format!("/v1/internal/executions/{last_id}:complete");
                ("POST", path, br#"{"success":false}"#.to_vec())
            }
            12..17 => ("POST", format!("/v1/functions/{name}:enqueue"), body),
            _ => ("POST", format!("/v1/functions/{name}:invoke"), body),
        };
        let request = encode(method, &path, &headers, &body);
        if chance.below(10) == 0 {
            leave(server, &request, &mut chance);
            continue;
        }
        client.write(&request);
        let Ok(response) = client.read() else {
            panic!("no answer; the server's last words: {}", last_words(server))
        };
        answers[usize::from(response.status)].fetch_add(1, Ordering::Relaxed);
        assert_ne!(response.status, 500, "{method} {path}: {}", response.text());
        if let Some(id) = response.header("x-execution-id") {
            last_id = id.to_owned();
        }
        if chance.below(50) == 0 {
            client = server.client();
        }
    }
}

fn last_words(server: &Server) -> String {
    // What it says when it aborts is on its way.
    pace(Duration::from_millis(200));
    let log = server.log();
    let panic = log.iter().position(|line| line.contains("panicked")).unwrap_or(log.len().saturating_sub(3));
    log[panic..log.len().min(panic + 3)].join("\n")
}

/// Sends a request, or a part of it, and does not wait for the answer.
fn leave(server: &Server, request: &[u8], chance: &mut Chance) {
    let mut stream = TcpStream::connect(server.api).expect("server listens");
    let part = if chance.below(3) == 0 { chance.below(request.len() as u64) as usize } else { request.len() };
    let _ = stream.write_all(&request[..part]);
    pace(Duration::from_micros(chance.below(2000)));
}

#[test]
fn whatever_happens_the_accounts_balance() {
    let server = Server::start(&["async-queue.enabled=true", "http-client.max-connections-per-endpoint=8"]);
    let function = function();
    let url = function.url();
    let mut chance = Chance(0);
    for name in FUNCTIONS {
        server.register(spec(name, &url, &mut chance));
    }
    let answers: Arc<[AtomicUsize; 600]> = Arc::new(std::array::from_fn(|_| AtomicUsize::new(0)));
    thread::scope(|scope| {
        for seed in 1..=CLIENTS {
            let (server, url, answers) = (&server, &url, Arc::clone(&answers));
            scope.spawn(move || live(server, url, seed, &answers));
        }
    });
    for status in [200, 201, 202, 204, 404, 408, 409, 422, 429] {
        let count = answers[status].load(Ordering::Relaxed);
        assert!(count > 0, "no answer had status {status}: the test does not reach everything it should");
    }
    let sum = |text: &str, start: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(start));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    for gauge in [
        "function_in_flight{",
        "function_queue_depth{",
        "nanofaas_shard_attempts{",
        "nanofaas_shard_queued_bytes{",
    ] {
        eventually(&format!("{gauge} is zero"), || {
            sum(&server.manage("/actuator/prometheus").text(), gauge) == 0.0
        });
    }
    assert_eq!(server.metric("nanofaas_accounting_drift"), 0.0);
    // Only the sweep is left.
    eventually("no deadline is left", || {
        sum(&server.manage("/actuator/prometheus").text(), "nanofaas_shard_timers{") <= 2.0
    });
    assert_eq!(server.manage("/actuator/health/liveness").status, 200);
    let fine = server.log().iter().all(|line| !line.contains("panicked") && !line.contains("\"ERROR\""));
    assert!(fine, "{:#?}", server.log());
    let mut client: Client = server.client();
    for name in FUNCTIONS {
        client.send("DELETE", &format!("/v1/functions/{name}"), &[], b"");
    }
    assert_eq!(server.get("/v1/functions").text(), "[]");
    let text = server.manage("/actuator/prometheus").text();
    assert!(!text.contains("function=\""), "series of functions that are gone");
}
