//! Reading what programs write: kept within a limit, or logged line by line with the end kept.
//!
//! A stream that cannot be read counts as ended: how the program exits says more than the broken pipe.

use std::{cell::RefCell, collections::VecDeque};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;

use super::{
    function_log::TARGET,
    invocation::{BODY_MAX, Failure},
};

/// How much of the end of stderr is kept for messages, in bytes.
const TAIL_MAX: usize = 4096;

/// Longest line in the log, in bytes; longer ones are cut into several.
pub const LINE_MAX: usize = 8192;

/// Bytes that are read at once.
const CHUNK: usize = LINE_MAX;

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub struct Tail(VecDeque<u8>);

impl Tail {
    /// Takes more of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_MAX)..];
        let surplus = (self.0.len() + bytes.len()).saturating_sub(TAIL_MAX);
        self.0.drain(..surplus);
        self.0.extend(bytes);
    }

    /// As text, without the white space around.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

/// Appends a whole stream to `kept`.
///
/// # Errors
/// [`Failure::TooLarge`] when it is longer than [`BODY_MAX`].
pub async fn keep(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> Result<(), Failure> {
    let Some(stream) = stream else { return Ok(()) };
    let _ = stream.take(BODY_MAX as u64 + 1).read_to_end(kept).await;
    if kept.len() > BODY_MAX { Err(Failure::TooLarge) } else { Ok(()) }
}

/// Logs a whole stream line by line and keeps its end. `name` is `stdout` or `stderr`; without an execution id the
/// stream is that of a program which answers many calls.
pub async fn log(
    stream: Option<impl AsyncRead + Unpin>,
    name: &'static str,
    execution_id: &str,
    tail: &RefCell<Tail>,
) {
    let execution_id = Some(execution_id).filter(|id| !id.is_empty());
    let keep = |bytes: &[u8]| tail.borrow_mut().push(bytes);
    let log = |line: &str| tracing::info!(target: TARGET, stream = name, execution_id, "{line}");
    read_lines(stream, LINE_MAX, keep, log).await;
}

/// Reads a whole stream. Gives everything to `keep`, and every line that is not blank to `take`; lines longer than
/// `line_max` bytes are cut into several.
pub async fn read_lines(
    stream: Option<impl AsyncRead + Unpin>,
    line_max: usize,
    mut keep: impl FnMut(&[u8]),
    mut take: impl FnMut(&str),
) {
    let Some(mut stream) = stream else { return };
    let mut line = Vec::new();
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        keep(&chunk[..count]);
        for part in chunk[..count].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if part.ends_with(b"\n") || line.len() >= line_max {
                take_line(&mut line, &mut take);
            }
        }
    }
    take_line(&mut line, &mut take);
}

fn take_line(line: &mut Vec<u8>, take: &mut impl FnMut(&str)) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    if !text.is_empty() {
        take(text);
    }
    line.clear();
}

/// Writes the input and closes the stream. A program may close its side early: not to want all is no error.
pub async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_end() {
        let mut tail = Tail::default();
        tail.push(&[b'a'; 3 * TAIL_MAX]);
        tail.push(b"the end\n");
        assert_eq!(tail.text().len(), TAIL_MAX - 1);
        assert!(tail.text().ends_with("aathe end"));
    }
}
