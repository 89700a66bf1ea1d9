//! The way back to the shards for everything that works for them on other threads: backends, deliveries, the store.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use shard_core::Input;

use crate::{worker::Host, workers::Workers};

/// Posts inputs to shards, from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    post: Arc<dyn Fn(u16, Input) + Send + Sync>,
}

impl Inbox {
    /// Takes inputs itself; tests have one without any shard.
    pub fn new(post: impl Fn(u16, Input) + Send + Sync + 'static) -> Inbox {
        Inbox { post: Arc::new(post) }
    }

    /// Hosts own what posts here, and the workers own the hosts: a strong reference would keep all of them for ever.
    pub(crate) fn of<H: Host>(workers: Weak<Workers<H>>) -> Inbox {
        Inbox::new(move |shard, input| {
            if let Some(workers) = workers.upgrade() {
                workers.post(shard, input);
            }
        })
    }

    /// Sends an input to a shard. It is dropped when the workers are gone.
    pub fn post(&self, shard: u16, input: Input) {
        (self.post)(shard, input);
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Inbox")
    }
}
