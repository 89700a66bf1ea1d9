//! A server that says what it is told to, and remembers what it was asked.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

/// Longest wait for a client that has stopped in the middle of a request.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What one request gets: its method and path, the status and the body of the answer.
pub(crate) type Exchange = (&'static str, u16, String);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `GET /v1/functions`
    pub(crate) line: String,
    /// Header lines, lower case.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// The server. Its thread ends with the process.
pub(crate) struct Fake {
    pub(crate) endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Arc<Mutex<VecDeque<Exchange>>>,
}

impl Fake {
    /// Answers the requests of the script, in any order but each once; anything else is a 418.
    pub(crate) fn start(script: Vec<Exchange>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let fake = Fake { endpoint, requests: Arc::clone(&requests), script: Arc::clone(&script) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(request) = read(&stream) else { continue };
                let mut script = script.lock().expect("no panic in here");
                let found = script.iter().position(|(line, ..)| *line == request.line);
                let (status, body) = match found.and_then(|index| script.remove(index)) {
                    Some((_, status, body)) => (status, body),
                    None => (418, format!("{{\"error\":\"UNSCRIPTED\",\"message\":\"{}\"}}", request.line)),
                };
                requests.lock().expect("no panic in here").push(request);
                answer(stream, status, &body);
            }
        });
        fake
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic in the server").clone()
    }

    /// Asserts that every line of the script was asked for, and nothing else.
    pub(crate) fn assert_done(&self) {
        let left = self.script.lock().expect("no panic in the server");
        assert!(left.is_empty(), "never asked for {left:?}; asked for {:?}", self.requests());
    }
}

impl Request {
    pub(crate) fn has(&self, header: &str) -> bool {
        self.headers.iter().any(|line| line == header)
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(READ_TIMEOUT)).ok()?;
    let mut lines = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    };
    let line = next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = Vec::new();
    loop {
        match next()? {
            end if end.is_empty() => break,
            header => headers.push(header.to_lowercase()),
        }
    }
    let length = headers.iter().find_map(|header| header.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    lines.read_exact(&mut body).ok()?;
    Some(Request { line, headers, body: String::from_utf8(body).ok()? })
}

fn answer(mut stream: TcpStream, status: u16, body: &str) {
    let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head =
        format!("HTTP/1.1 {status} \r\ncontent-type: application/json\r\n{length}connection: close\r\n\r\n");
    // A client that is gone is what some test wants.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}
