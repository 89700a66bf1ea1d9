//! One connection of the server: bytes in, requests out of them, answers back.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

/// Size of the buffers while nothing longer comes.
const BUFFER_BYTES: usize = 16 * 1024;
/// Longest request.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most headers.
const HEADERS_MAX: usize = 64;

/// A complete request.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) path: &'a str,
    /// Value of `X-Execution-Id`.
    pub(crate) execution_id: Option<&'a str>,
    /// Value of `X-Dispatch-Attempt`.
    pub(crate) attempt: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

/// The connection ends here.
#[derive(Debug)]
pub(crate) struct Ended;

#[derive(Debug)]
pub(super) struct ServedConnection {
    pub(super) socket: TcpStream,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    written: usize,
}

impl ServedConnection {
    pub(super) fn new(socket: TcpStream) -> ServedConnection {
        ServedConnection { socket, input: vec![0; BUFFER_BYTES], filled: 0, output: Vec::new(), written: 0 }
    }

    /// Reads, answers and writes as far as the socket goes along.
    pub(super) fn turn(&mut self, answer: &mut impl FnMut(Incoming<'_>, &mut Vec<u8>)) -> Result<(), Ended> {
        self.write()?;
        loop {
            if self.filled == self.input.len() {
                if self.input.len() >= REQUEST_BYTES_MAX {
                    return Err(Ended);
                }
                self.input.resize(self.input.len() * 2, 0);
            }
            let room = self.input.len() - self.filled;
            let count = match self.socket.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(Ended),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Ended),
            };
            self.filled += count;
            self.answer_all(answer)?;
            self.write()?;
            if count < room {
                return Ok(());
            }
        }
    }

    fn answer_all(&mut self, answer: &mut impl FnMut(Incoming<'_>, &mut Vec<u8>)) -> Result<(), Ended> {
        let mut start = 0;
        while let Some((incoming, size)) = parse(&self.input[start..self.filled])? {
            answer(incoming, &mut self.output);
            start += size;
        }
        self.input.copy_within(start..self.filled, 0);
        self.filled -= start;
        Ok(())
    }

    fn write(&mut self) -> Result<(), Ended> {
        while self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(0) => return Err(Ended),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }
}

/// The first request in `bytes` and its length, once it is complete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Incoming<'_>, usize)>, Ended> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(status) = request.parse(bytes) else { return Err(Ended) };
    let httparse::Status::Complete(head) = status else { return Ok(None) };
    let (mut length, mut execution_id, mut attempt) = (0usize, None, None);
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length =
                str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok()).ok_or(Ended)?;
        } else if header.name.eq_ignore_ascii_case("x-execution-id") {
            execution_id = str::from_utf8(header.value).ok();
        } else if header.name.eq_ignore_ascii_case("x-dispatch-attempt") {
            attempt = str::from_utf8(header.value).ok();
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Ended);
        }
    }
    if length > REQUEST_BYTES_MAX {
        return Err(Ended);
    }
    let path = request.path.unwrap_or_default();
    let Some(body) = bytes.get(head..head + length) else { return Ok(None) };
    Ok(Some((Incoming { path, execution_id, attempt, body }, head + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_one_another() {
        let text = b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET /b HTTP/1.1\r\n\r\nGE";
        let (first, size) = parse(text).expect("requests").expect("a request");
        assert_eq!((first.path, first.body), ("/a", &b"hi"[..]));
        let (second, more) = parse(&text[size..]).expect("requests").expect("a request");
        assert_eq!((second.path, second.body), ("/b", &b""[..]));
        assert!(parse(&text[size + more..]).expect("a part").is_none());
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }
}
