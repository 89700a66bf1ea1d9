//! What runs have seen: rules that no run gets to would not be tested.

/// How often things happened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Calls admitted.
    pub admitted: u64,
    /// Calls that waited.
    pub waited: u64,
    /// Executions accepted.
    pub accepted: u64,
    /// Attempts dispatched.
    pub dispatched: u64,
    /// Attempts that were followed by another.
    pub retried: u64,
    /// Attempts that were cut off.
    pub aborted: u64,
    /// Callbacks that decided an attempt.
    pub called_back: u64,
    /// Completions that came too late.
    pub late: u64,
    /// Callers whose deadline passed.
    pub timed_out: u64,
    /// Calls refused by a rate limit.
    pub rate_limited: u64,
    /// Calls refused by a full queue.
    pub queue_full: u64,
    /// Calls refused by the sync queue.
    pub sync_queue: u64,
    /// Requests refused by other bounds.
    pub overloaded: u64,
    /// Requests refused because of the disk.
    pub unwritten: u64,
    /// Answers that came from another call with the same key.
    pub joined: u64,
    /// Keys used for another payload.
    pub key_reused: u64,
    /// Dead letters tried again.
    pub replayed: u64,
    /// Results delivered.
    pub delivered: u64,
    /// Functions registered and removed.
    pub registered: u64,
    /// Functions removed.
    pub removed: u64,
    /// Attempts that were not run, because their replica was down.
    pub refused: u64,
    /// Attempts during which their replica ended.
    pub crashed: u64,
    /// Addresses that were probed.
    pub probed: u64,
    /// Probes that reached nobody.
    pub probes_failed: u64,
    /// Orders to have fewer replicas of those that are ready.
    pub scaled_down: u64,
    /// Crashes of the server.
    pub crashes: u64,
    /// Groups of records that could not be written.
    pub commits_failed: u64,
    /// Results read back from disk.
    pub read: u64,
    /// Jobs created.
    pub jobs_created: u64,
    /// Jobs that ended before a callback had decided their attempt.
    pub jobs_failed: u64,
    /// Attempts that went on after a crash.
    pub jobs_adopted: u64,
    /// Those of them whose jobs were not there.
    pub jobs_lost: u64,
}

impl Stats {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Stats) {
        self.admitted += other.admitted;
        self.waited += other.waited;
        self.accepted += other.accepted;
        self.dispatched += other.dispatched;
        self.retried += other.retried;
        self.aborted += other.aborted;
        self.called_back += other.called_back;
        self.late += other.late;
        self.timed_out += other.timed_out;
        self.rate_limited += other.rate_limited;
        self.queue_full += other.queue_full;
        self.sync_queue += other.sync_queue;
        self.overloaded += other.overloaded;
        self.unwritten += other.unwritten;
        self.joined += other.joined;
        self.key_reused += other.key_reused;
        self.replayed += other.replayed;
        self.delivered += other.delivered;
        self.registered += other.registered;
        self.removed += other.removed;
        self.refused += other.refused;
        self.crashed += other.crashed;
        self.probed += other.probed;
        self.probes_failed += other.probes_failed;
        self.scaled_down += other.scaled_down;
        self.crashes += other.crashes;
        self.commits_failed += other.commits_failed;
        self.read += other.read;
        self.jobs_created += other.jobs_created;
        self.jobs_failed += other.jobs_failed;
        self.jobs_adopted += other.jobs_adopted;
        self.jobs_lost += other.jobs_lost;
    }

    /// All of them, by name.
    pub fn all(&self) -> [(&'static str, u64); 32] {
        [
            ("admitted", self.admitted),
            ("waited", self.waited),
            ("accepted", self.accepted),
            ("dispatched", self.dispatched),
            ("retried", self.retried),
            ("aborted", self.aborted),
            ("called_back", self.called_back),
            ("late", self.late),
            ("timed_out", self.timed_out),
            ("rate_limited", self.rate_limited),
            ("queue_full", self.queue_full),
            ("sync_queue", self.sync_queue),
            ("overloaded", self.overloaded),
            ("unwritten", self.unwritten),
            ("joined", self.joined),
            ("key_reused", self.key_reused),
            ("replayed", self.replayed),
            ("delivered", self.delivered),
            ("registered", self.registered),
            ("removed", self.removed),
            ("refused", self.refused),
            ("crashed", self.crashed),
            ("probed", self.probed),
            ("probes_failed", self.probes_failed),
            ("scaled_down", self.scaled_down),
            ("crashes", self.crashes),
            ("commits_failed", self.commits_failed),
            ("read", self.read),
            ("jobs_created", self.jobs_created),
            ("jobs_failed", self.jobs_failed),
            ("jobs_adopted", self.jobs_adopted),
            ("jobs_lost", self.jobs_lost),
        ]
    }
}
