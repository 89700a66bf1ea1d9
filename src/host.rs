//! What performs the effects of a shard: dispatches go to the dispatcher, slow orders to the backends, notes to
//! the metrics and the log.

use std::{collections::VecDeque, sync::Arc};

use nanofaas_store::Store;
use nanofaas_wire::result::detach;
use shard_core::{
    AttemptKey, Destination, Dispatch, DispatchEvent, Effect, FunctionKey, Input, Note, Outcome, Output,
    OutputKind, Report, Shard,
};
use shard_runtime::Host;

use crate::{
    delivery::{self, Deliveries, DeliveryOrder},
    deployments::{AdoptionOrder, Deployments, FunctionRef, JobHandle, JobOrder},
    dispatch::{Dispatcher, envelope},
    telemetry::shard::{Finished, Measure, ShardMetrics, Slice},
};

/// See the module. Lives on its shard's thread.
pub struct ShardHost {
    shard: u16,
    dispatcher: Dispatcher,
    deployments: Arc<Deployments>,
    metrics: ShardMetrics,
    store: Box<dyn Store>,
    /// `None`: there is no key to sign results with.
    deliveries: Option<Deliveries>,
    /// The newest job by the position of its attempt's key, also when it has ended.
    jobs: Vec<Option<(AttemptKey, JobHandle)>>,
}

impl ShardHost {
    /// The host of one shard.
    pub fn new(
        shard: u16,
        dispatcher: Dispatcher,
        deployments: Arc<Deployments>,
        store: Box<dyn Store>,
        deliveries: Option<Deliveries>,
    ) -> ShardHost {
        let (metrics, jobs) = (ShardMetrics::default(), Vec::new());
        ShardHost { shard, dispatcher, deployments, metrics, store, deliveries, jobs }
    }

    /// Copies what a scrape shows of up to `functions_max` functions, from a position on.
    pub fn copy_metrics(&mut self, shard: &Shard, from: usize, functions_max: usize) -> Slice {
        self.metrics.copy(shard, from, functions_max)
    }

    /// Ends a period of the metrics.
    pub fn rotate_metrics(&mut self) {
        self.metrics.rotate();
    }

    /// Orders the job of an attempt; what is known at once, if that failed.
    fn start_job(&mut self, function: FunctionKey, dispatch: Dispatch) -> Option<Input> {
        let attempt = dispatch.attempt;
        let order = JobOrder {
            function: FunctionRef { shard: self.shard, key: function },
            attempt,
            id: dispatch.id,
            number: dispatch.number,
            remaining_ms: dispatch.remaining_ms,
            trace_id: dispatch.extra.and_then(|extra| extra.trace_id),
            payload: envelope(&dispatch.payload),
        };
        match self.deployments.create_job(order) {
            Ok(job) => {
                self.keep_job(attempt, job);
                None
            }
            Err(failed) => Some(*failed),
        }
    }

    fn keep_job(&mut self, attempt: AttemptKey, job: JobHandle) {
        let index = attempt.index();
        if self.jobs.len() <= index {
            self.jobs.resize_with(index + 1, || None);
        }
        self.jobs[index] = Some((attempt, job));
    }

    /// Stops an attempt, wherever it is.
    fn abort(&mut self, attempt: AttemptKey) {
        let job = self.jobs.get_mut(attempt.index());
        match job.and_then(|job| job.take_if(|(of, _)| *of == attempt)) {
            Some((_, job)) => job.end(),
            None => self.dispatcher.abort(attempt),
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Finished { function, queue_wait_us, latency_us, e2e_us, init_ms } => {
                self.metrics.finished(function, Finished { queue_wait_us, latency_us, e2e_us });
                if let Some(init_ms) = init_ms {
                    self.metrics.record(function, Measure::Init, u64::from(init_ms) * 1000);
                }
            }
            Note::SyncDispatched { function, wait_us } => {
                self.metrics.record(function, Measure::SyncWait, wait_us);
            }
            Note::FunctionGone { function } => self.metrics.remove(function),
            Note::Late { id, reason } => {
                tracing::debug!(execution = %id, reason, "completion ignored");
            }
            Note::DeadLetterDropped { id } => {
                tracing::warn!(execution = %id, "the function has too many dead letters, its oldest is dropped");
            }
            Note::NotReconciled { name, message } => {
                tracing::warn!(function = %name, message, "replicas could not be restarted; trying again");
            }
            Note::NotRun { id, attempt } => {
                tracing::debug!(execution = %id, attempt, "attempt not run, the call waits for a replica");
            }
            Note::JobLost { id, attempt } => {
                tracing::debug!(execution = %id, attempt, "the job is not there, another attempt follows");
            }
            Note::Retry { id, attempt, code } => {
                tracing::debug!(execution = %id, attempt, code = %code, "attempt failed, another follows");
            }
        }
    }
}

impl Host for ShardHost {
    fn perform(&mut self, effect: Effect, follow_up: &mut VecDeque<Input>) {
        match effect {
            Effect::Dispatch(dispatch) => match dispatch.destination {
                Destination::Local => follow_up.push_back(echo(dispatch)),
                Destination::Endpoint(endpoint) => self.dispatcher.start(endpoint, dispatch),
                Destination::Job(function) => follow_up.extend(self.start_job(function, dispatch)),
            },
            Effect::AdoptJob { attempt, id, number, function } => {
                let function = FunctionRef { shard: self.shard, key: function };
                let order = AdoptionOrder { function, attempt, id, number };
                self.keep_job(attempt, self.deployments.adopt_job(order));
            }
            Effect::Abort { attempt } => self.abort(attempt),
            Effect::OpenEndpoint { endpoint, function, address, .. } => {
                self.dispatcher.open_endpoint(endpoint, &function, &address);
            }
            Effect::CloseEndpoint { endpoint } => self.dispatcher.close_endpoint(endpoint),
            Effect::Probe { function, endpoint } => self.dispatcher.probe(function, endpoint),
            Effect::Provision { function, spec } => {
                let function = FunctionRef { shard: self.shard, key: function };
                follow_up.extend(self.deployments.provision(function, &spec.document));
            }
            Effect::Teardown { function, .. } => {
                let function = FunctionRef { shard: self.shard, key: function };
                follow_up.extend(self.deployments.tear_down(function));
            }
            Effect::Scale { function, replicas, first_to_go, .. } => {
                let function = FunctionRef { shard: self.shard, key: function };
                follow_up.extend(self.deployments.scale(function, replicas, &first_to_go));
            }
            Effect::Journal { number, entry } => follow_up.extend(self.store.append(number, entry)),
            Effect::Deliver { id, number, url, view } => follow_up.extend(match &self.deliveries {
                Some(deliveries) => {
                    deliveries.deliver(DeliveryOrder { shard: self.shard, id, number, url, view })
                }
                // It was accepted when there was a key.
                None => {
                    Some(delivery::failed(id, number, "there is no key to sign with; set delivery.secret"))
                }
            }),
            Effect::ReadResult { ticket, id } => follow_up.extend(self.store.read_result(id, ticket)),
            Effect::Note(note) => self.note(note),
            // The runtime keeps these for itself.
            Effect::Reply { .. } | Effect::ReturnBytes(_) | Effect::ReturnRoom(_) => {}
        }
    }
}

/// A LOCAL function answers with its input.
fn echo(dispatch: Dispatch) -> Input {
    let kind = match dispatch.payload.content_type {
        None => OutputKind::Json,
        Some(content_type) => OutputKind::other(content_type),
    };
    let output = Output { body: detach(&dispatch.payload.input), kind };
    let report = Report::warm(Outcome::Success(output));
    Input::Dispatch(dispatch.attempt, DispatchEvent::Finished(report))
}
