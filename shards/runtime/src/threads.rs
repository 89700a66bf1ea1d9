//! Starts and ends the threads of a fabric.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use crate::{
    fabric::Fabric,
    node::{AbortOnPanic, Host, Node},
};

/// The running threads of a fabric.
#[derive(Debug)]
pub struct Threads {
    handles: Vec<JoinHandle<()>>,
}

/// Starts every thread of the plan: a tokio `LocalRuntime` each, its node's pump, and the host of its shard.
///
/// # Errors
/// When the operating system gives no thread, or no event queue.
pub fn start<H: Host>(
    fabric: &Arc<Fabric<H>>,
    make_host: impl Fn(&Node<H>, u16) -> H + Send + Sync + 'static,
) -> io::Result<Threads> {
    let make_host = Arc::new(make_host);
    let mut handles = Vec::new();
    for (number, role) in (0u16..).zip(fabric.plan().threads.clone()) {
        let fabric = Arc::clone(fabric);
        let make_host = Arc::clone(&make_host);
        let runtime_made = std::sync::mpsc::sync_channel(1);
        let handle = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = runtime_made.0.send(Err(error));
                    return;
                }
            };
            let _ = runtime_made.0.send(Ok(()));
            // Whatever panics outside a connection's task takes the loop with it, and calls would wait for ever.
            let abort = AbortOnPanic;
            runtime.block_on(async move {
                let node = Node::new(&fabric, number);
                if let Some(shard) = role.shard {
                    node.seat(make_host(&node, shard));
                }
                node.pump().await;
            });
            std::mem::forget(abort);
            // A name that is still being resolved must not keep the process.
            runtime.shutdown_background();
        })?;
        // A thread that ended without a word left the channel closed.
        runtime_made.1.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
        handles.push(handle);
    }
    Ok(Threads { handles })
}

impl Threads {
    /// Waits until all have ended. Call [`Fabric::stop`] first.
    pub fn join(self) {
        for handle in self.handles {
            // A panic was reported by the thread itself.
            let _ = handle.join();
        }
    }
}
