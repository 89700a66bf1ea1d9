//! Changes that do not come to their end, on real workers of which the second is held up.

use std::{collections::VecDeque, sync::mpsc};

use shard_core::{Effect, Limits};
use shard_runtime::{Placement, Shape, Threads, plan::plan};

use super::*;

/// A host that has nothing to do: nobody calls functions here.
struct Idle;

impl Host for Idle {
    fn perform(&mut self, _: Effect, _: &mut VecDeque<Input>) {}
}

/// Two shards on two threads, and a runtime to change their settings from.
struct Rig {
    workers: Arc<Workers<Idle>>,
    threads: Option<Threads>,
    config: RuntimeConfig<Idle>,
}

impl Rig {
    fn start() -> Rig {
        let config = Config::default();
        let workers: Arc<Workers<Idle>> = Workers::new(Shape {
            plan: plan(2, Placement::Colocated),
            limits: Limits::default(),
            settings: settings(&initial(&config), &config),
            queued_bytes_max: 1 << 20,
            room: Limits::default().room,
            mailbox_max: 16,
            callers_max: 16,
            seed: 1,
        });
        let threads = shard_runtime::start(&workers, |_, _| Idle).expect("threads");
        let config = RuntimeConfig::new(&workers, config);
        Rig { workers, threads: Some(threads), config }
    }

    /// Holds the thread of a shard up until the sender is dropped.
    fn block(&self, shard: u16) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel();
        let (enter, entered) = mpsc::channel();
        self.workers.run_on(self.workers.plan().thread_of(shard), move |_| {
            enter.send(()).expect("the test waits");
            let _ = released.recv();
        });
        entered.recv().expect("the thread runs");
        release
    }

    /// The settings that a shard has once it has taken everything sent so far.
    async fn settings(&self, shard: u16) -> Settings {
        self.workers.ask(shard, |shard, _| shard.settings().clone()).await.expect("the thread runs")
    }

    /// The settings that the snapshot stands for.
    fn expected(&self) -> Settings {
        settings(&self.config.snapshot(), &self.config.config)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.workers.stop();
        if let Some(threads) = self.threads.take() {
            threads.join();
        }
    }
}

fn patch(body: &str) -> Patch {
    Patch::parse(body.as_bytes()).expect("a patch")
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
}

const CHANGE: &str = r#"{"rateMaxPerSecond":5,"syncQueueEnabled":true}"#;

#[test]
fn a_change_that_one_shard_does_not_take_in_time_is_undone_on_all() {
    block_on(async {
        let rig = Rig::start();
        let before = rig.expected();
        let release = rig.block(1);
        let rejection = rig.config.change(&patch(CHANGE)).await.expect_err("one shard is held up");
        assert_eq!(rejection, Rejection::RolledBack { shard: 1 });
        assert_eq!(rig.config.snapshot().revision, 0);
        assert_eq!(rig.settings(0).await, before);
        assert_eq!(rig.config.updates.counts(), (0, 1));
        // The late one takes the change now, and then what undoes it.
        drop(release);
        assert_eq!(rig.settings(1).await, before);

        // And everything works as if nothing had happened.
        let (snapshot, _) = rig.config.change(&patch(CHANGE)).await.expect("nobody is held up");
        assert_eq!((snapshot.revision, snapshot.rate_max_per_second), (1, 5));
        assert_ne!(rig.expected(), before);
        for shard in [0, 1] {
            assert_eq!(rig.settings(shard).await, rig.expected());
        }
        assert_eq!(rig.config.updates.counts(), (1, 1));
    });
}

#[test]
fn a_change_whose_client_leaves_half_way_is_undone_on_all() {
    block_on(async {
        let rig = Rig::start();
        let before = rig.expected();
        let release = rig.block(1);
        let change = patch(CHANGE);
        tokio::select! {
            biased;
            result = rig.config.change(&change) => panic!("one shard is held up: {result:?}"),
            // The change is polled first, so the first shard has it before it is asked.
            settings = rig.settings(0) => assert_ne!(settings, before),
        }
        drop(release);
        for shard in [0, 1] {
            assert_eq!(rig.settings(shard).await, before);
        }
        assert_eq!(rig.config.snapshot().revision, 0);
        assert_eq!(rig.config.updates.counts(), (0, 1));
    });
}

#[test]
fn a_refused_change_reaches_no_shard() {
    block_on(async {
        let rig = Rig::start();
        let before = rig.expected();
        for body in [r#"{"defaultConcurrency":0}"#, r#"{"rateMaxPerSecond":5,"expectedRevision":3}"#] {
            rig.config.change(&patch(body)).await.expect_err("refused");
            rig.config.validate(&patch(CHANGE)).expect("could be made");
            for shard in [0, 1] {
                assert_eq!(rig.settings(shard).await, before, "{body}");
            }
        }
        assert_eq!(rig.config.updates.counts(), (0, 2));
    });
}
