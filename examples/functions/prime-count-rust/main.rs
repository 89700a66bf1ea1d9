//! prime-count: how many primes there are up to a limit, and the largest of them.
//!
//! Runs in HTTP mode: the watchdog starts this server once with `PORT`, waits until `GET /health` answers, and sends
//! every call to `POST /invoke`. The body is the request `{"input":…,"metadata":…}`, the answer is the bare output.
//! A wrong input is no failed call: the answer is 200 `{"error":"…"}`. Anything but 2xx is a failed call.
//!
//! From the top: the function, the sieve, the server (HTTP/1.1 with keep-alive, a thread per connection), and a reader
//! for the JSON it needs. Everything is `std`, so that `rustc` alone builds it; a function of yours may well use crates.
//! Deliberately not here: chunked bodies (501), and keys written with escapes (`"l\u0069mit"` is not `limit`).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, process, thread};

const LIMIT_MAX: u64 = 50_000_000;

fn main() {
    let port = env::var("PORT").unwrap_or_else(|_| "8081".to_owned());
    if let Err(error) = serve(&format!("127.0.0.1:{port}")) {
        eprintln!("prime-count: cannot listen on 127.0.0.1:{port}: {error}");
        process::exit(1);
    }
}

// ---- the function --------------------------------------------------------------------------------------------------

/// `{"limit": 1..=50000000}` → `{"limit","count","largest"}`, or `{"error"}`. `largest` is null below 2.
fn handle(input: &Json) -> String {
    match read_limit(input) {
        Ok(limit) => {
            let (count, largest) = count_primes(limit);
            let largest = largest.map_or("null".to_owned(), |prime| prime.to_string());
            format!(r#"{{"limit":{limit},"count":{count},"largest":{largest}}}"#)
        }
        Err(message) => format!(r#"{{"error":"{message}"}}"#),
    }
}

/// The field `limit`. The messages hold nothing that JSON would have to escape.
fn read_limit(input: &Json) -> Result<u64, String> {
    let Some(limit) = input.member("limit") else {
        return Err("missing required field: limit".to_owned());
    };
    let not_an_integer = || "field 'limit' must be an integer".to_owned();
    let Json::Number(text) = limit else { return Err(not_an_integer()) };
    // 1e3 and 1000.0 are integers too. Infinity (1e999) has no fraction either, it is only out of range.
    let number: f64 = text.parse().map_err(|_| not_an_integer())?;
    if number.is_finite() && number.fract() != 0.0 {
        return Err(not_an_integer());
    }
    if !(1.0..=LIMIT_MAX as f64).contains(&number) {
        return Err(format!("limit must be between 1 and {LIMIT_MAX}, got: {text}"));
    }
    Ok(number as u64)
}

// ---- the sieve -----------------------------------------------------------------------------------------------------

/// Numbers sieved at a time, one byte each: as many as fit into the first cache of about every CPU.
const SEGMENT: usize = 32 * 1024;

/// The count of primes up to `limit`, and the largest: the sieve of Eratosthenes over the odd numbers, in segments.
fn count_primes(limit: u64) -> (u64, Option<u64>) {
    if limit < 2 {
        return (0, None);
    }
    let (mut count, mut largest) = (1, 2); // the one even prime
    // From here on index i stands for the odd number 2i + 3, so p indices on comes the next odd multiple of p.
    let odds = (limit as usize - 1) / 2;
    let primes = odd_primes_to(limit.isqrt() as usize);
    let mut sieves: Vec<(usize, usize)> =
        primes.into_iter().map(|prime| (prime, (prime * prime - 3) / 2)).collect();
    let mut composite = [false; SEGMENT];
    for low in (0..odds).step_by(SEGMENT) {
        let segment = &mut composite[..SEGMENT.min(odds - low)];
        segment.fill(false);
        for (prime, next) in &mut sieves {
            while *next < low + segment.len() {
                segment[*next - low] = true;
                *next += *prime;
            }
        }
        count += segment.iter().filter(|&&composite| !composite).count() as u64;
        if let Some(last) = segment.iter().rposition(|&composite| !composite) {
            largest = 2 * (low + last) as u64 + 3;
        }
    }
    (count, Some(largest))
}

/// The odd primes up to `limit`, which is at most the root of [`LIMIT_MAX`]: trial division will do.
fn odd_primes_to(limit: usize) -> Vec<usize> {
    let mut primes: Vec<usize> = Vec::new();
    for number in (3..=limit).step_by(2) {
        if primes.iter().take_while(|&&prime| prime * prime <= number).all(|prime| number % prime != 0) {
            primes.push(number);
        }
    }
    primes
}

// ---- the server ----------------------------------------------------------------------------------------------------

/// Connections open at a time, each with a thread of its own. The watchdog needs one per call that runs.
const CONNECTIONS_MAX: usize = 64;
const HEAD_BYTES_MAX: u64 = 16 * 1024;
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A connection on which nothing arrives for so long is closed, or silent peers could hold all of them.
const SILENCE_MAX: Duration = Duration::from_secs(300);

fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    eprintln!("prime-count listens on {}", listener.local_addr()?);
    // Every thread accepts for itself: who comes when all are busy waits in the kernel's backlog.
    thread::scope(|threads| {
        for _ in 0..CONNECTIONS_MAX {
            threads.spawn(|| accept_for_ever(&listener));
        }
    });
    Ok(())
}

fn accept_for_ever(listener: &TcpListener) {
    loop {
        match listener.accept() {
            // A peer that went away in the middle is no news.
            Ok((stream, _)) => drop(converse(&stream)),
            // Most likely out of file descriptors: do not spin until one is back.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A request as far as we look at it.
struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
    keep_alive: bool,
}

/// Why a request was not read to its end; the connection is of no use afterwards.
enum Unreadable {
    Refused(Answer),
    Broken(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Unreadable::Broken(error)
    }
}

/// Status line and JSON body.
type Answer = (&'static str, String);

fn error_answer(status: &'static str, code: &str, message: &str) -> Answer {
    (status, format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#))
}

/// Answers the requests of one connection, one after another.
fn converse(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        match read_request(&mut reader) {
            Ok(Some(request)) => {
                write_answer(stream, &route(&request), request.keep_alive)?;
                if !request.keep_alive {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(Unreadable::Broken(error)) => return Err(error),
            Err(Unreadable::Refused(answer)) => return write_answer(stream, &answer, false),
        }
    }
}

fn route(request: &Request) -> Answer {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") => ("200 OK", r#"{"status":"ok"}"#.to_owned()),
        ("POST", "/invoke") => invoke(&request.body),
        _ => error_answer("404 Not Found", "NOT_FOUND", "there are only POST /invoke and GET /health"),
    }
}

fn invoke(body: &[u8]) -> Answer {
    let Some(request) = str::from_utf8(body).ok().and_then(Json::parse) else {
        return error_answer("400 Bad Request", "INVALID_JSON", "Request body must be valid JSON");
    };
    match request.member("input") {
        Some(input) => ("200 OK", handle(input)),
        None => error_answer("400 Bad Request", "INVALID_REQUEST", "Request body has no field 'input'"),
    }
}

/// The next request, or `None` when the peer has closed the connection after the last one.
fn read_request(reader: &mut impl BufRead) -> Result<Option<Request>, Unreadable> {
    let bad = |message| Unreadable::Refused(error_answer("400 Bad Request", "BAD_REQUEST", message));
    let mut head = reader.by_ref().take(HEAD_BYTES_MAX);
    let Some(line) = read_line(&mut head)? else { return Ok(None) };
    let words: Vec<&str> = line.split(' ').collect();
    let [method, path, version @ ("HTTP/1.1" | "HTTP/1.0")] = words[..] else {
        return Err(bad("this is not an HTTP/1.1 request line"));
    };

    let mut length = None;
    let mut keep_alive = version == "HTTP/1.1";
    loop {
        let header = read_line(&mut head)?.ok_or_else(|| bad("the head is cut off or too large"))?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| bad("a header has no colon"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            // Digits only, and once: a length that two readers could take differently is refused.
            "content-length" if length.is_none() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                length = Some(value.parse::<usize>().map_err(|_| bad("the Content-Length is not a length"))?);
            }
            "content-length" => return Err(bad("the Content-Length is not one length")),
            "transfer-encoding" => {
                let message = "send a Content-Length instead";
                let answer = error_answer("501 Not Implemented", "NOT_IMPLEMENTED", message);
                return Err(Unreadable::Refused(answer));
            }
            "connection" if value.eq_ignore_ascii_case("close") => keep_alive = false,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => keep_alive = true,
            _ => {}
        }
    }

    let length = length.unwrap_or(0);
    if length > BODY_BYTES_MAX {
        let answer = error_answer("413 Content Too Large", "BODY_TOO_LARGE", "the body is larger than 4 MiB");
        return Err(Unreadable::Refused(answer));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), body, keep_alive }))
}

/// A line without its end, or `None` at the end of the stream. Bytes that are not UTF-8 only become odd characters.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Ok(None);
    }
    line.pop_if(|byte| *byte == b'\r');
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

fn write_answer(mut stream: &TcpStream, (status, body): &Answer, keep_alive: bool) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    // One write, so that head and body travel in one packet.
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes())
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

/// A JSON value. Strings and numbers are kept as they were written; what nobody asks for is only checked.
enum Json<'a> {
    Number(&'a str),
    Object(Vec<(&'a str, Json<'a>)>),
    Other,
}

impl<'a> Json<'a> {
    /// The value, or `None` when `text` is not exactly one JSON value.
    fn parse(text: &'a str) -> Option<Json<'a>> {
        let mut parser = Parser { text, at: 0, depth: 0 };
        let value = parser.value()?;
        (parser.at == text.len()).then_some(value)
    }

    /// A member of an object; of a name that comes twice, the last.
    fn member(&self, name: &str) -> Option<&Json<'a>> {
        let Json::Object(members) = self else { return None };
        members.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// Reads `text` from byte `at` on. Every method returns `None` when it does not find what it is named after.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// Deeper values are refused: the parser calls itself, and the stack ends.
    const DEPTH_MAX: usize = 128;

    /// A value and the space around it.
    fn value(&mut self) -> Option<Json<'a>> {
        self.space();
        let value = match self.peek()? {
            b'{' => self.object()?,
            b'[' => self.array()?,
            b'"' => self.string().map(|_| Json::Other)?,
            b'-' | b'0'..=b'9' => self.number()?,
            _ => ["null", "true", "false"].into_iter().find_map(|word| self.word(word))?,
        };
        self.space();
        Some(value)
    }

    fn object(&mut self) -> Option<Json<'a>> {
        let mut members = Vec::new();
        self.list(b'{', b'}', |parser| {
            parser.space();
            let key = parser.string()?;
            parser.space();
            parser.take(b':')?;
            members.push((key, parser.value()?));
            Some(())
        })?;
        Some(Json::Object(members))
    }

    fn array(&mut self) -> Option<Json<'a>> {
        self.list(b'[', b']', |parser| parser.value().map(drop))?;
        Some(Json::Other)
    }

    /// Items with commas between them, in brackets.
    fn list(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.depth += 1;
        if self.depth > Self::DEPTH_MAX {
            return None;
        }
        self.take(open)?;
        self.space();
        if self.take(close).is_none() {
            item(self)?;
            while self.take(b',').is_some() {
                item(self)?;
            }
            self.take(close)?;
        }
        self.depth -= 1;
        Some(())
    }

    /// A string: what is between its quotes, escapes and all.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.next()? {
                b'"' => return self.text.get(start..self.at - 1),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => (0..4).try_for_each(|_| self.next()?.is_ascii_hexdigit().then_some(()))?,
                    _ => return None,
                },
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<Json<'a>> {
        let start = self.at;
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if self.take(b'e').or_else(|| self.take(b'E')).is_some() {
            let _ = self.take(b'+').or_else(|| self.take(b'-'));
            self.digits()?;
        }
        self.text.get(start..self.at).map(Json::Number)
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<Json<'a>> {
        self.text.get(self.at..)?.starts_with(word).then(|| self.at += word.len())?;
        Some(Json::Other)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}
