//! What a mailbox is made of: the system's lock and flag and tokio's wake, or loom's when its model is checked.
//!
//! `RUSTFLAGS='--cfg loom_model' cargo test -p shard-runtime --lib --target-dir target/loom model` tries every
//! interleaving that the memory model allows (`mailbox::model`). A cfg of its own, because tokio looks at `loom`.

#[cfg(all(test, loom_model))]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(all(test, loom_model)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

#[cfg(all(test, loom_model))]
pub(crate) use model::Notify;
#[cfg(not(all(test, loom_model)))]
pub(crate) use tokio::sync::Notify;

#[cfg(all(test, loom_model))]
mod model {
    use std::{future::poll_fn, task::Poll, task::Waker};

    use loom::sync::Mutex;

    /// What a mailbox relies on of `tokio::sync::Notify`: one ring is kept for whoever waits next.
    #[derive(Debug)]
    pub(crate) struct Notify(Mutex<(bool, Option<Waker>)>);

    impl Notify {
        pub(crate) fn new() -> Notify {
            Notify(Mutex::new((false, None)))
        }

        pub(crate) fn notify_one(&self) {
            // Nothing panics while it is held.
            let mut state = self.0.lock().expect("no panic holds it");
            state.0 = true;
            let waker = state.1.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }

        pub(crate) async fn notified(&self) {
            poll_fn(|context| {
                // Nothing panics while it is held.
                let mut state = self.0.lock().expect("no panic holds it");
                if std::mem::take(&mut state.0) {
                    return Poll::Ready(());
                }
                state.1 = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }
}
