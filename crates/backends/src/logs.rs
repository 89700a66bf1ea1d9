//! What replicas write, as a stream.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{FunctionName, ReplicaId};

/// Lines that wait for a reader, at most.
const WAITING_MAX: usize = 1024;

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// Of which function.
    pub function: FunctionName,
    /// Of which replica, if not of all.
    pub replica: Option<ReplicaId>,
    /// How many that are written already, of each replica: the last ones. A backend may keep fewer.
    pub tail: usize,
    /// Whether lines that are written later follow. Else the stream ends.
    pub follow: bool,
}

impl LogRequest {
    /// Whether the lines of this replica are wanted.
    pub fn wants(&self, replica: &ReplicaId) -> bool {
        self.replica.as_ref().is_none_or(|wanted| wanted == replica)
    }
}

/// A line that a replica wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Who wrote it.
    pub replica: ReplicaId,
    /// Without its end.
    pub text: Arc<str>,
}

/// Where a backend puts lines. The stream ends when all clones are gone.
#[derive(Debug, Clone)]
pub struct LogSender(mpsc::Sender<LogLine>);

impl LogSender {
    /// Puts a line, without waiting: one that has too many waiting before it is lost. Whether anybody still reads.
    pub fn send(&self, line: LogLine) -> bool {
        !matches!(self.0.try_send(line), Err(mpsc::error::TrySendError::Closed(_)))
    }
}

/// Lines of one [`LogRequest`]. Dropping it is the way to stop.
#[derive(Debug)]
pub struct LogStream(mpsc::Receiver<LogLine>);

impl LogStream {
    /// A stream, and what fills it.
    pub fn new() -> (LogSender, LogStream) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (LogSender(sender), LogStream(receiver))
    }

    /// The next line; none at the end.
    pub async fn next(&mut self) -> Option<LogLine> {
        self.0.recv().await
    }

    /// The next line, for threads without a runtime.
    pub fn wait(&mut self) -> Option<LogLine> {
        self.0.blocking_recv()
    }
}
