//! Jobs: they outlive the server that ordered them, and end while there is none. The next one lists them, and goes on with those
//! of attempts that are on record.
//!
//! A list may fail, come late, lack a job, or have one that nobody knows.

use std::collections::BTreeMap;

use shard_core::ExecutionId;

use crate::{
    agenda::Agenda,
    functions::{ExchangeKey, ExchangeStep},
    random::{Random, Stream},
    sabotage::Sabotage,
    swarm::BackendFaults,
    world::Event,
};

/// Names a job: the execution, and the number of its attempt.
type JobKey = (ExecutionId, u32);

/// Time for a shard to hear of the end of its job.
const NEWS_US: u64 = 1000;

#[derive(Debug)]
struct Job {
    /// When it was created, or is.
    since_us: u64,
    /// When it ended.
    ended_us: Option<u64>,
    /// Which exchange hears of its end.
    watcher: Option<ExchangeKey>,
    /// Nobody will ever hear of it again: it was told to end, or a list did not show it.
    is_nobodys: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Jobs {
    seed: u64,
    faults: BackendFaults,
    /// How long what is left of a job can be listed, on average.
    kept_us: u64,
    jobs: BTreeMap<JobKey, Job>,
    /// Jobs that exchanges wait to hear of since a server started, listed or not.
    adopted: BTreeMap<ExchangeKey, JobKey>,
    /// Of these, those that were not looked for yet.
    unlisted: BTreeMap<ExchangeKey, JobKey>,
    is_listing: bool,
    /// Lists that were asked for.
    lists: u64,
}

impl Jobs {
    pub(crate) fn new(seed: u64, faults: &BackendFaults, kept_us: u64) -> Jobs {
        Jobs {
            seed,
            faults: faults.clone(),
            kept_us,
            jobs: BTreeMap::new(),
            adopted: BTreeMap::new(),
            unlisted: BTreeMap::new(),
            is_listing: false,
            lists: 0,
        }
    }

    /// A job is ordered.
    pub(crate) fn create(&mut self, key: JobKey, watcher: ExchangeKey, since_us: u64) {
        let job = Job { since_us, ended_us: None, watcher: Some(watcher), is_nobodys: false };
        self.jobs.insert(key, job);
    }

    /// The server is gone. What was not created yet will not be.
    pub(crate) fn cut_off(&mut self, now_us: u64) {
        self.jobs.retain(|_, job| job.since_us <= now_us && !job.is_nobodys);
        self.jobs.values_mut().for_each(|job| job.watcher = None);
        self.adopted.clear();
        self.unlisted.clear();
        self.is_listing = false;
    }

    /// A job comes to its end. Returns who hears of it.
    pub(crate) fn ends(&mut self, key: JobKey, agenda: &mut Agenda<Event>) -> Option<ExchangeKey> {
        let job = self.jobs.get_mut(&key)?;
        if job.since_us > agenda.now_us() {
            return None;
        }
        let watcher = job.watcher;
        if watcher.is_some() || job.is_nobodys {
            self.jobs.remove(&key);
        } else if job.ended_us.replace(agenda.now_us()).is_none() {
            let mut random = Random::of(self.seed, Stream::Attempt, (key, "kept"));
            let (id, number) = key;
            agenda.after(random.around(self.kept_us), Event::JobCollected { id, number });
        }
        let watcher = watcher?;
        self.adopted.remove(&watcher);
        Some(watcher)
    }

    /// Nothing is left of a job that ended.
    pub(crate) fn collected(&mut self, key: JobKey) {
        if self.jobs.get(&key).is_some_and(|job| job.ended_us.is_some() && job.watcher.is_none()) {
            self.jobs.remove(&key);
        }
    }

    /// The job of an exchange is to end; `late`: it does so by itself, which is told. An attempt that was waited for until its
    /// time was over must not be one of which it was known that its job had ended.
    pub(crate) fn end(&mut self, exchange: ExchangeKey, late: bool, now_us: u64) -> Result<(), String> {
        self.unlisted.remove(&exchange);
        if let Some(key) = self.adopted.remove(&exchange)
            && let Some(ended_us) = self.jobs.get(&key).and_then(|job| job.ended_us)
            && !self.is_listing
            && ended_us + NEWS_US < now_us
        {
            return Err(format!("the job of {} had ended, and its attempt went on", key.0));
        }
        let watched = |job: &&mut Job| job.watcher == Some(exchange);
        if late {
            self.jobs.values_mut().filter(watched).for_each(|job| job.is_nobodys = true);
        } else {
            self.jobs.retain(|_, job| job.watcher != Some(exchange));
        }
        Ok(())
    }

    /// A server that starts has an attempt whose job may be there.
    pub(crate) fn look_for(&mut self, exchange: ExchangeKey, key: JobKey) {
        self.adopted.insert(exchange, key);
        self.unlisted.insert(exchange, key);
    }

    /// Looks for jobs after a while.
    pub(crate) fn begin_listing(&mut self, agenda: &mut Agenda<Event>) {
        self.is_listing = true;
        self.lists += 1;
        let mut random = Random::of(self.seed, Stream::Attempt, ("list", self.lists));
        agenda.after(random.around(self.faults.delay_us), Event::JobsListed);
    }

    /// The list of all jobs is there, or could not be made.
    pub(crate) fn listed(&mut self, sabotage: Option<Sabotage>, calm: bool, agenda: &mut Agenda<Event>) {
        let now_us = agenda.now_us();
        let random = &mut Random::of(self.seed, Stream::Attempt, ("listed", self.lists));
        if random.chance(self.faults.fails) && !calm {
            return self.begin_listing(agenda);
        }
        self.is_listing = false;
        for (exchange, key) in std::mem::take(&mut self.unlisted) {
            let is_there = |job: &&mut Job| job.since_us <= now_us && !job.is_nobodys;
            let lacks = random.chance(self.faults.job_unlisted);
            match self.jobs.get_mut(&key).filter(is_there) {
                Some(job) if !lacks => {
                    let is_seen = sabotage != Some(Sabotage::JobUnwatched);
                    job.watcher = is_seen.then_some(exchange);
                    // Nobody is to end it, as far as it is known.
                    if let (false, Some(ended_us)) = (is_seen, job.ended_us.as_mut()) {
                        *ended_us = now_us;
                    } else if is_seen && job.ended_us.is_some() {
                        let (id, number) = key;
                        agenda.after(random.below(50), Event::JobEnds { id, number });
                    }
                }
                job => {
                    job.into_iter().for_each(|job| job.is_nobodys = true);
                    self.adopted.remove(&exchange);
                    let step = ExchangeStep::JobLost;
                    agenda.after(random.below(50), Event::Exchange { exchange, step });
                }
            }
        }
        if sabotage != Some(Sabotage::JobsOfNobodyKept) {
            let adopted = &self.adopted;
            let is_of = |key: &JobKey| adopted.values().any(|adopted| adopted == key);
            self.jobs.retain(|key, job| job.watcher.is_some() || job.is_nobodys || is_of(key));
        }
    }

    /// Whether a server that has started does not know yet which jobs there are.
    pub(crate) fn is_listing(&self) -> bool {
        self.is_listing
    }

    /// A job that goes on, and that somebody should have ended.
    pub(crate) fn left(&self) -> Option<ExecutionId> {
        let left = |job: &Job| job.ended_us.is_none() && !job.is_nobodys;
        self.jobs.iter().find(|(_, job)| left(job)).map(|((id, _), _)| *id)
    }
}
