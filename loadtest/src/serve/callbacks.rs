//! Receives callbacks and hands each result to the thread that made the call.
//!
//! The path of the callback's URL names the call. Signatures are not checked: the answers are counted, not acted upon.

use std::{
    io,
    net::TcpListener,
    thread::{self, JoinHandle},
};

use super::{Incoming, Server, Stopper};
use crate::run::{CallbackResult, Mailbox, thread_of, verdict};

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// A listener that runs.
#[derive(Debug)]
pub(crate) struct Listener {
    thread: JoinHandle<io::Result<()>>,
    stopper: Stopper,
}

impl Listener {
    pub(crate) fn stop(self) {
        self.stopper.stop();
        // Whether it ended well does not matter any more.
        let _ = self.thread.join();
    }
}

/// Starts to receive. `mailboxes` are those of the sending threads, in order.
pub(crate) fn start(listener: TcpListener, mailboxes: Vec<Mailbox>) -> io::Result<Listener> {
    let server = Server::new(listener)?;
    let stopper = server.stopper();
    let thread = thread::Builder::new().name("callbacks".to_owned()).spawn(move || {
        server.run(|incoming, output| {
            take(&incoming, &mailboxes);
            output.extend_from_slice(ANSWER);
        })
    })?;
    Ok(Listener { thread, stopper })
}

fn take(incoming: &Incoming<'_>, mailboxes: &[Mailbox]) {
    let token = incoming.path.rsplit('/').next().and_then(|token| u64::from_str_radix(token, 16).ok());
    let Some(token) = token else { return };
    if let Some(mailbox) = mailboxes.get(thread_of(token)) {
        mailbox.send(CallbackResult { token, result: verdict::result(incoming.body) });
    }
}
