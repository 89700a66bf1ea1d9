//! Starts and ends the threads of the workers.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use crate::{
    worker::{AbortOnPanic, Host, Worker},
    workers::Workers,
};

/// The running threads of the workers.
#[derive(Debug)]
pub struct Threads {
    handles: Vec<JoinHandle<()>>,
}

/// Starts every thread of the plan: a tokio `LocalRuntime` each, its worker's pump, and the host of its shard.
///
/// # Errors
/// When the operating system gives no thread, or no event queue.
pub fn start<H: Host>(
    workers: &Arc<Workers<H>>,
    make_host: impl Fn(&Worker<H>, u16) -> H + Send + Sync + 'static,
) -> io::Result<Threads> {
    let make_host = Arc::new(make_host);
    let mut handles = Vec::new();
    for (number, role) in (0u16..).zip(workers.plan().threads.clone()) {
        let workers = Arc::clone(workers);
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
                let worker = Worker::new(&workers, number);
                if let Some(shard) = role.shard {
                    worker.set_host(make_host(&worker, shard));
                }
                worker.pump().await;
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
    /// Waits until all have ended. Call [`Workers::stop`] first.
    pub fn join(self) {
        for handle in self.handles {
            // A panic was reported by the thread itself.
            let _ = handle.join();
        }
    }
}
