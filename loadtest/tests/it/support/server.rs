//! A server with a thread per connection that answers what a test says.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    delay: Duration,
    closes: bool,
    drops: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Reply {
        let body = body.into();
        Reply { status, headers: Vec::new(), body, delay: Duration::ZERO, closes: false, drops: false }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Is sent so much later.
    pub(crate) fn after(self, delay: Duration) -> Reply {
        Reply { delay, ..self }
    }

    /// Is the last on its connection.
    pub(crate) fn and_close(self) -> Reply {
        Reply { closes: true, ..self }
    }

    /// No answer: the connection is closed.
    pub(crate) fn nothing() -> Reply {
        Reply { drops: true, ..Reply::new(0, "") }
    }
}

/// A server that runs until the test ends.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                thread::spawn(move || {
                    // The load test may hang up at any time.
                    let _ = serve(socket, answer.as_ref());
                });
            }
        });
        Server { address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(socket: TcpStream, answer: &dyn Fn(&Request) -> Reply) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut writer = socket.try_clone()?;
    let mut reader = BufReader::new(socket);
    while let Some(request) = read(&mut reader)? {
        let reply = answer(&request);
        if reply.drops {
            return Ok(());
        }
        thread::sleep(reply.delay);
        let mut text = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
        for (name, value) in &reply.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if reply.closes {
            text.push_str("Connection: close\r\n");
        }
        writer.write_all(format!("{text}\r\n{}", reply.body).as_bytes())?;
        if reply.closes {
            return Ok(());
        }
    }
    Ok(())
}

fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let mut word = || words.next().expect("a request line").to_owned();
    let (method, path) = (word(), word());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}

/// An empty directory that nothing else uses.
pub(crate) fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("loadtest-{name}"));
    // It may be left from an earlier run.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a directory");
    folder
}
