//! The last lines of one replica, and who reads along.

use std::{cell::RefCell, collections::VecDeque, sync::Arc};

use crate::{LogLine, LogRequest, LogSender, ReplicaId};

/// Bytes of lines that are kept, for each replica. The log of the server has all of them.
const BYTES_MAX: usize = 16 << 10;

/// What a line costs beside its text, so that empty ones are bounded as well.
const LINE_COST: usize = 32;

/// See the module. Lives on the backend's thread.
pub struct ReplicaLog {
    id: ReplicaId,
    state: RefCell<LogState>,
}

#[derive(Default)]
struct LogState {
    lines: VecDeque<Arc<str>>,
    bytes: usize,
    followers: Vec<LogSender>,
}

impl ReplicaLog {
    /// Nothing is written yet.
    pub fn new(id: ReplicaId) -> ReplicaLog {
        ReplicaLog { id, state: RefCell::default() }
    }

    /// The replica wrote a line.
    pub fn push(&self, text: &str) {
        let mut state = self.state.borrow_mut();
        let text: Arc<str> = text.into();
        state.followers.retain(|follower| follower.send(self.line(&text)));
        state.bytes += text.len() + LINE_COST;
        state.lines.push_back(text);
        while state.bytes > BYTES_MAX
            && let Some(oldest) = state.lines.pop_front()
        {
            state.bytes -= oldest.len() + LINE_COST;
        }
    }

    /// Somebody wants to read.
    pub fn read(&self, request: &LogRequest, sender: &LogSender) {
        if !request.wants(&self.id) {
            return;
        }
        let mut state = self.state.borrow_mut();
        let skipped = state.lines.len().saturating_sub(request.tail);
        let is_read = state.lines.iter().skip(skipped).all(|text| sender.send(self.line(text)));
        if is_read && request.follow {
            state.followers.push(sender.clone());
        }
    }

    fn line(&self, text: &Arc<str>) -> LogLine {
        LogLine { replica: self.id.clone(), text: Arc::clone(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogStream;

    #[test]
    fn the_last_lines_are_kept_and_followed() {
        let log = ReplicaLog::new("r".to_owned().into());
        (0..10_000).for_each(|number| log.push(&format!("line {number}")));
        assert!(log.state.borrow().bytes <= BYTES_MAX);
        let (sender, mut stream) = LogStream::new();
        let request = LogRequest { function: "f".into(), replica: None, tail: 2, follow: true };
        log.read(&request, &sender);
        drop(sender);
        log.push("more");
        for expected in ["line 9998", "line 9999", "more"] {
            assert_eq!(stream.wait().map(|line| line.text.to_string()).as_deref(), Some(expected));
        }
        drop(stream);
        log.push("to nobody");
        assert!(log.state.borrow().followers.is_empty());
    }
}
