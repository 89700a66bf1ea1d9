//! Functions, and the dispatcher that talks to them: what becomes of an attempt, drawn from its own stream.
//!
//! An exchange goes on from its dispatch until it is reported or aborted. A callback is a request of its own, which the
//! function sends to any thread. Jobs (`jobs`) go on without the server that ordered them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use shard_core::{
    AttemptKey, Destination, Dispatch, DispatchEvent, EndpointId, ExecutionId, Failure, Input, Outcome,
    Output, OutputKind, Report,
};

use crate::{
    agenda::Agenda,
    jobs::Jobs,
    random::{Random, Stream},
    swarm::{BackendFaults, FunctionFaults},
    world::Event,
};

/// Code of failures that functions report.
pub(crate) const BROKEN: &str = "BROKEN";

/// Code of failures of the dispatcher.
pub(crate) const UNREACHABLE: &str = "UNREACHABLE";

/// Names an exchange: attempts have keys per shard.
pub(crate) type ExchangeKey = (u16, AttemptKey);

/// See the module.
#[derive(Debug)]
pub(crate) struct Functions {
    seed: u64,
    faults: FunctionFaults,
    /// Jobs that cannot be created, and those that end before their callback.
    job_refused: u32,
    job_breaks: u32,
    /// Longest attempt that any registration allows, in microseconds.
    timeout_us_max: u64,
    exchanges: BTreeMap<ExchangeKey, Exchange>,
    endpoints: BTreeMap<(u16, EndpointId), Arc<str>>,
    /// Addresses whose replicas have ended, or whose machines have vanished.
    down: BTreeMap<Arc<str>, Away>,
    pub(crate) jobs: Jobs,
}

/// A replica that has ended and is being started again.
#[derive(Debug)]
struct Away {
    until_us: u64,
    /// Its machine has vanished: nothing refuses what is sent to it, connecting takes its time.
    is_silent: bool,
}

/// Longest that connecting to a machine that has vanished takes.
const CONNECT_US_MAX: u64 = 80_000;
/// Replicas that end with their machine, per mille, where they are not back at once; and how much longer they are away.
const VANISH: u32 = 250;
const VANISHED_TIMES: u64 = 10;

#[derive(Debug)]
struct Exchange {
    /// It is reported although it was aborted: the report was on its way.
    reports_aborted: bool,
    /// Where it goes.
    address: Option<Arc<str>>,
}

/// A step of an exchange.
#[derive(Debug)]
pub(crate) enum ExchangeStep {
    /// The connection is open, the request sent.
    Sent,
    /// The replica ends, with everything that runs in it.
    Ends,
    /// Its job was created.
    JobCreated,
    /// Its job, which another server ordered, is not there.
    JobLost,
    /// The function answered. `again`: and the dispatcher reports it once more.
    Reported { report: Report, again: bool },
}

/// What a function sends on its own account.
#[derive(Debug)]
pub(crate) struct Callback {
    pub(crate) id: ExecutionId,
    pub(crate) attempt: Option<u32>,
    pub(crate) outcome: Outcome,
}

impl Functions {
    pub(crate) fn new(seed: u64, faults: FunctionFaults, backend: &BackendFaults) -> Functions {
        let timeout_us_max = faults.timeout_ms_max * 1000;
        Functions {
            seed,
            faults,
            job_refused: backend.job_refused,
            job_breaks: backend.job_breaks,
            timeout_us_max,
            exchanges: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            down: BTreeMap::new(),
            jobs: Jobs::new(seed, backend, timeout_us_max),
        }
    }

    /// From now on every attempt is answered.
    pub(crate) fn behave(&mut self) {
        let faults = &mut self.faults;
        (faults.fails, faults.refuses, faults.hangs, faults.defers) = (0, 0, 0, 0);
        (faults.poisons, faults.crashes) = (0, 0);
        (faults.forgets, self.job_refused, self.job_breaks) = (0, 0, 0);
        self.down.clear();
    }

    /// The server is gone: its connections are cut, its addresses forgotten. What functions do goes on, and so do jobs.
    pub(crate) fn cut_off(&mut self, now_us: u64) {
        self.exchanges.clear();
        self.endpoints.clear();
        self.jobs.cut_off(now_us);
    }

    pub(crate) fn open(&mut self, shard: u16, endpoint: EndpointId, address: Arc<str>) {
        self.endpoints.insert((shard, endpoint), address);
    }

    pub(crate) fn close(&mut self, shard: u16, endpoint: EndpointId) {
        self.endpoints.remove(&(shard, endpoint));
    }

    /// Where an attempt goes. `None`: to an address that is not open.
    pub(crate) fn address_of(&self, shard: u16, endpoint: EndpointId) -> Option<&Arc<str>> {
        self.endpoints.get(&(shard, endpoint))
    }

    /// How long connecting to an address takes.
    pub(crate) fn connect_us(&self, shard: u16, endpoint: EndpointId, now_us: u64) -> u64 {
        let mut random = Random::of(self.seed, Stream::Attempt, (shard, "probe", now_us));
        let away = self.address_of(shard, endpoint).and_then(|address| self.down.get(address));
        let is_silent = away.is_some_and(|away| away.until_us > now_us && away.is_silent);
        random.below(if is_silent { CONNECT_US_MAX } else { 50 })
    }

    /// Whether somebody listens at an address; at one that was closed meanwhile, whoever has it now.
    pub(crate) fn is_reachable(&self, shard: u16, endpoint: EndpointId, now_us: u64) -> bool {
        let away = self.address_of(shard, endpoint).and_then(|address| self.down.get(address));
        away.is_none_or(|away| away.until_us <= now_us)
    }

    /// An attempt goes out. Returns what is known at once.
    pub(crate) fn dispatch(
        &mut self,
        shard: u16,
        dispatch: &Dispatch,
        agenda: &mut Agenda<Event>,
    ) -> Option<Input> {
        if dispatch.destination == Destination::Local {
            let output = Output { body: dispatch.payload.input.clone(), kind: OutputKind::Json };
            let report = Report::warm(Outcome::Success(output));
            return Some(Input::Dispatch(dispatch.attempt, DispatchEvent::Finished(report)));
        }
        let (id, number) = (dispatch.id, dispatch.number);
        let mut random = Random::of(self.seed, Stream::Attempt, (id, number));
        let random = &mut random;
        let exchange = (shard, dispatch.attempt);
        let faults = self.faults.clone();
        let address = match dispatch.destination {
            Destination::Endpoint(endpoint) => self.address_of(shard, endpoint).cloned(),
            Destination::Local | Destination::Job(_) => None,
        };
        let away = address.as_ref().and_then(|address| self.down.get(address));
        let is_silent = away.filter(|away| away.until_us > agenda.now_us()).map(|away| away.is_silent);
        let reports_aborted = random.chance(faults.reports_aborted);
        self.exchanges.insert(exchange, Exchange { reports_aborted, address });
        if matches!(dispatch.destination, Destination::Job(_)) {
            self.create_job(random, exchange, (id, number), agenda);
            return None;
        }
        if let Some(is_silent) = is_silent {
            let report = Report::warm(Outcome::NotRun(Box::new(Failure::new(UNREACHABLE, "Nobody listens"))));
            let step = ExchangeStep::Reported { report, again: false };
            let wait_us = random.below(if is_silent { CONNECT_US_MAX } else { 50 });
            agenda.after(wait_us, Event::Exchange { exchange, step });
            return None;
        }
        let service_us = random.around(faults.service_us);
        let sent_us = random.below(service_us + 1) / 4;
        agenda.after(sent_us, Event::Exchange { exchange, step: ExchangeStep::Sent });
        let poisoned = Random::of(self.seed, Stream::Attempt, (id, "poison")).chance(faults.poisons);
        if poisoned || Random::of(self.seed, Stream::Attempt, (id, number, "crash")).chance(faults.crashes) {
            agenda.after(sent_us + service_us, Event::Exchange { exchange, step: ExchangeStep::Ends });
            return None;
        }
        let calls_back_unasked = random.chance(faults.calls_back_unasked);
        let mut outcome = self.outcome(random, id, number, "answer");
        if random.chance(faults.defers) {
            outcome = Outcome::Deferred;
        }
        if outcome == Outcome::Deferred && !random.chance(faults.forgets) || calls_back_unasked {
            self.call_back(random, id, number, service_us, agenda);
        }
        if !random.chance(faults.hangs) {
            let cold_start = random.chance(faults.cold);
            let init_ms = cold_start.then(|| random.below(500) as u32);
            let report = Report { outcome, cold_start, init_ms, bad_output: false };
            let again = random.chance(faults.reports_twice);
            let step = ExchangeStep::Reported { report, again };
            agenda.after(sent_us + service_us, Event::Exchange { exchange, step });
        }
        None
    }

    /// The job of an attempt is ordered. It calls back and ends, or ends without that, or does neither.
    fn create_job(
        &mut self,
        random: &mut Random,
        exchange: ExchangeKey,
        (id, number): (ExecutionId, u32),
        agenda: &mut Agenda<Event>,
    ) {
        let faults = self.faults.clone();
        let service_us = random.around(faults.service_us);
        let created_us = random.below(service_us + 1);
        if random.chance(self.job_refused) {
            let failure = Box::new(Failure::new(BROKEN, output(id, number, "not created")));
            let outcome = Outcome::Failure { failure, retryable: true, retry_after_ms: None };
            let step = ExchangeStep::Reported { report: Report::warm(outcome), again: false };
            agenda.after(created_us, Event::Exchange { exchange, step });
            return;
        }
        agenda.after(created_us, Event::Exchange { exchange, step: ExchangeStep::JobCreated });
        self.jobs.create((id, number), exchange, agenda.now_us() + created_us);
        if !random.chance(self.job_breaks) && !random.chance(faults.forgets) {
            // The news of a job may come after what it says.
            self.call_back(random, id, number, service_us, agenda);
        }
        if !random.chance(faults.hangs) {
            let ends_us = created_us + random.around(2 * service_us);
            agenda.after(ends_us, Event::JobEnds { id, number });
        }
    }

    /// The dispatcher is told to stop, and to end a job.
    pub(crate) fn abort(&mut self, exchange: ExchangeKey, now_us: u64) -> Result<(), String> {
        let goes_on = self.exchanges.get(&exchange).is_some_and(|exchange| exchange.reports_aborted);
        if !goes_on {
            self.exchanges.remove(&exchange);
        }
        self.jobs.end(exchange, goes_on, now_us)
    }

    /// The server is to go on with the job of an attempt that another one made.
    pub(crate) fn adopt(&mut self, exchange: ExchangeKey, job: (ExecutionId, u32)) {
        self.exchanges.insert(exchange, Exchange { reports_aborted: false, address: None });
        self.jobs.look_for(exchange, job);
    }

    /// A job ends: what its shard is told, if it belongs to one.
    pub(crate) fn job_ends(
        &mut self,
        (id, number): (ExecutionId, u32),
        agenda: &mut Agenda<Event>,
    ) -> Option<(u16, Input)> {
        let exchange = self.jobs.ends((id, number), agenda)?;
        self.exchanges.remove(&exchange)?;
        let failure = Box::new(Failure::new(BROKEN, output(id, number, "job ended")));
        Some((exchange.0, Input::Dispatch(exchange.1, DispatchEvent::JobEnded(failure))))
    }

    /// An exchange goes on: what the shard is told.
    pub(crate) fn step(
        &mut self,
        exchange: ExchangeKey,
        step: ExchangeStep,
        agenda: &mut Agenda<Event>,
    ) -> Option<Input> {
        let attempt = exchange.1;
        match step {
            ExchangeStep::Sent => {
                let goes_on = self.exchanges.contains_key(&exchange);
                goes_on.then_some(Input::Dispatch(attempt, DispatchEvent::Sent))
            }
            ExchangeStep::JobCreated => {
                let goes_on = self.exchanges.contains_key(&exchange);
                goes_on.then_some(Input::Dispatch(attempt, DispatchEvent::JobCreated))
            }
            ExchangeStep::JobLost => {
                self.exchanges.remove(&exchange)?;
                Some(Input::Dispatch(attempt, DispatchEvent::JobLost))
            }
            ExchangeStep::Ends => {
                let address = self.exchanges.get(&exchange)?.address.clone()?;
                let random = &mut Random::of(self.seed, Stream::Attempt, (&*address, agenda.now_us()));
                let mut away_us = random.around(self.faults.restart_us);
                let is_silent = away_us > CONNECT_US_MAX && random.fork("machine").chance(VANISH);
                away_us *= if is_silent { VANISHED_TIMES } else { 1 };
                let away = Away { until_us: agenda.now_us() + away_us, is_silent };
                self.down.insert(Arc::clone(&address), away);
                let lost =
                    self.exchanges.iter().filter(|(_, other)| other.address.as_ref() == Some(&address));
                for (exchange, _) in lost {
                    let failure = Box::new(Failure::new(UNREACHABLE, "It broke off"));
                    let report = Report::warm(Outcome::Crashed(failure));
                    let step = ExchangeStep::Reported { report, again: false };
                    agenda.after(random.below(50), Event::Exchange { exchange: *exchange, step });
                }
                None
            }
            ExchangeStep::Reported { report, again } => {
                let reported = self.exchanges.remove(&exchange)?;
                if again {
                    // What becomes of its replica is nothing to it any more.
                    self.exchanges.insert(exchange, Exchange { address: None, ..reported });
                    let step = ExchangeStep::Reported { report: report.clone(), again: false };
                    agenda.after(1, Event::Exchange { exchange, step });
                }
                Some(Input::Dispatch(attempt, DispatchEvent::Finished(report)))
            }
        }
    }

    fn call_back(
        &self,
        random: &mut Random,
        id: ExecutionId,
        number: u32,
        service_us: u64,
        agenda: &mut Agenda<Event>,
    ) {
        let faults = &self.faults;
        let mut wait_us = random.around(service_us + faults.service_us);
        if random.chance(faults.calls_back_late) {
            wait_us += self.timeout_us_max;
        }
        let times = if random.chance(faults.calls_back_twice) { 2 } else { 1 };
        for _ in 0..times {
            let attempt = (!random.chance(faults.calls_back_vaguely)).then_some(number);
            let outcome = self.outcome(random, id, number, "callback");
            agenda.after(wait_us, Event::Callback(Box::new(Callback { id, attempt, outcome })));
            wait_us += random.around(faults.service_us);
        }
    }

    fn outcome(&self, random: &mut Random, id: ExecutionId, number: u32, how: &str) -> Outcome {
        let faults = &self.faults;
        let refuses = random.chance(faults.refuses);
        if refuses || random.chance(faults.fails) {
            let retry_after = random.chance(faults.retry_after);
            return Outcome::Failure {
                failure: Box::new(Failure::new(BROKEN, output(id, number, how))),
                retryable: !refuses,
                retry_after_ms: retry_after.then(|| random.below(100) as u32),
            };
        }
        Outcome::Success(Output { body: Bytes::from(output(id, number, how)), kind: OutputKind::Json })
    }
}

/// What a function says, so that whoever reads it can tell whose result it is.
fn output(id: ExecutionId, number: u32, how: &str) -> String {
    format!("{id} {number} {how}")
}

/// The execution and the attempt that an output is of.
pub(crate) fn origin(output: &str) -> Option<(ExecutionId, u32)> {
    let mut words = output.split(' ');
    Some((ExecutionId::parse(words.next()?)?, words.next()?.parse().ok()?))
}
