//! A function under the test's control: a real HTTP server on a free port, one thread per connection.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;

use super::Gate;

/// What the function was sent.
#[derive(Debug, Clone)]
pub struct Call {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Call {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// What the function answers.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// 200 with JSON.
    pub fn json(value: Value) -> Reply {
        Reply::new(200, "application/json", value.to_string().as_bytes())
    }

    /// Any status, content type (none when empty) and body.
    pub fn new(status: u16, content_type: &str, body: &[u8]) -> Reply {
        let headers = if content_type.is_empty() {
            Vec::new()
        } else {
            vec![("content-type".to_owned(), content_type.to_owned())]
        };
        Reply { status, headers, body: body.to_vec() }
    }

    /// See [`Function::obedient`].
    pub fn asked(input: &Value) -> Reply {
        let text = |field: &str| input[field].as_str().unwrap_or_default();
        let status = input["status"].as_u64().map_or(200, |status| status as u16);
        let mut reply = Reply::new(status, text("type"), text("body").as_bytes());
        for (name, value) in input["headers"].as_object().into_iter().flatten() {
            reply = reply.with(name, value.as_str().expect("a header's value"));
        }
        reply
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running function. It lives as long as the test's process; its port is never used again meanwhile.
pub struct Function {
    pub address: SocketAddr,
    calls: Arc<AtomicUsize>,
    in_flight: Arc<AtomicUsize>,
    most_in_flight: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Function {
    /// Answers every call with this value once it has passed the gate.
    pub fn behind(gate: &Gate, value: Value) -> Function {
        let gate = gate.clone();
        Function::start(move |_| {
            gate.pass();
            Reply::json(value.clone())
        })
    }

    /// Answers every call with what `handler` makes of it; calls run in parallel, one per connection.
    pub fn start(handler: impl Fn(Call) -> Reply + Send + Sync + 'static) -> Function {
        let handler = Arc::new(handler);
        let counters: [Arc<AtomicUsize>; 3] = Default::default();
        let [calls, in_flight, most_in_flight] = counters.clone();
        let function = Function::raw(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
            let mut stream = stream;
            while let Some(call) = read_call(&mut reader) {
                calls.fetch_add(1, Ordering::SeqCst);
                let now = in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                most_in_flight.fetch_max(now, Ordering::SeqCst);
                let reply = handler(call);
                in_flight.fetch_sub(1, Ordering::SeqCst);
                let mut text =
                    format!("HTTP/1.1 {} Status\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
                for (name, value) in &reply.headers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                text.push_str("\r\n");
                if stream.write_all(&[text.as_bytes(), &reply.body].concat()).is_err() {
                    break;
                }
            }
        });
        let [calls, in_flight, most_in_flight] = counters;
        Function { calls, in_flight, most_in_flight, ..function }
    }

    /// Answers what the call's input asks for: `{"status":200,"type":"text/plain","body":"…","headers":{…}}`, where
    /// everything has a default: 200, no content type, no body, no headers.
    pub fn obedient() -> Function {
        Function::start(|call| Reply::asked(&call.json()["input"]))
    }

    /// Gives every connection to `handler`, which reads and writes what it likes.
    pub fn raw(handler: impl Fn(TcpStream) + Send + Sync + 'static) -> Function {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let handler = Arc::new(handler);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counter.fetch_add(1, Ordering::SeqCst);
                let handler = Arc::clone(&handler);
                std::thread::spawn(move || handler(stream));
            }
        });
        Function {
            address,
            calls: Arc::default(),
            in_flight: Arc::default(),
            most_in_flight: Arc::default(),
            connections,
        }
    }

    /// Its URL, for `endpointUrl`.
    pub fn url(&self) -> String {
        format!("http://{}/invoke", self.address)
    }

    /// Calls so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Calls being handled now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Most calls that were handled at the same time.
    pub fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::SeqCst)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Reads one request. `None` when the peer is done.
pub fn read_call(reader: &mut impl BufRead) -> Option<Call> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut call = Call { path, headers, body: Vec::new() };
    let length = call.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    call.body.resize(length, 0);
    reader.read_exact(&mut call.body).ok()?;
    Some(call)
}
