//! Random scripts for one function that the shard scales. Every order is within the function's bounds, none is 0
//! while anything waits or runs, and when calls end, all of them got through.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use shard_core::{
    AttemptKey, BackendEvent, Control, DispatchEvent, Effect, Effects, ExecutionId, FunctionKey,
    FunctionSpec, Input, Invoke, Lease, Limits, Name, Now, Outcome, Output, Payload, Policy, Provisioned,
    ReplicaAddress, Report, Request, Scaling, Settings, Shard, Target, Ticket, invariant,
    scaling::{ConcurrencyControl, Metric, MetricTarget},
    settings::Autoscaler,
};

#[derive(Debug, Clone)]
enum Op {
    Call,
    /// The oldest attempt in flight ends.
    Answer,
    /// The backend's word on the open order.
    Scaled(bool),
    /// This many of the wanted replicas are ready.
    Ready(u32),
    /// Somebody sets the replicas.
    Set(u32),
    /// The autoscaler is turned on or off.
    Turned(bool),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Call),
        3 => Just(Op::Answer),
        3 => any::<bool>().prop_map(Op::Scaled),
        3 => (0..6_u32).prop_map(Op::Ready),
        1 => (0..9_u32).prop_map(Op::Set),
        1 => prop_oneof![3 => Just(true), 1 => Just(false)].prop_map(Op::Turned),
        3 => (1..3000_u64).prop_map(Op::Pass),
    ]
}

prop_compose! {
    fn scaling()(
        min_replicas in 0..3_u32,
        more in 0..4_u32,
        targets in vec(prop_oneof![Just(f64::NAN), Just(0.0), 0.1..9.0_f64], 3),
        per_pod in 0..3_u32,
    ) -> Scaling {
        let metrics = [Metric::QueueDepth, Metric::InFlight, Metric::Rps].into_iter().zip(targets);
        let control = match per_pod {
            0 => ConcurrencyControl::Fixed,
            1 => ConcurrencyControl::StaticPerPod { target: 1 },
            _ => ConcurrencyControl::AdaptivePerPod {
                target: 2, target_min: 1, target_max: 3, upscale_cooldown_us: 0, downscale_cooldown_us: 0,
                high_load: 0.85, low_load: 0.35,
            },
        };
        Scaling {
            min_replicas,
            max_replicas: (min_replicas + more).max(1),
            metrics: metrics.map(|(metric, target)| MetricTarget { metric, target }).collect(),
            control,
        }
    }
}

/// A shard with one function, and the backend that it believes in.
struct Run {
    shard: Shard,
    scaling: Scaling,
    autoscaler: Autoscaler,
    now: Now,
    function: Option<FunctionKey>,
    attempts: Vec<AttemptKey>,
    /// Replicas ordered and not confirmed.
    ordered: Option<u32>,
    desired: u32,
    calls: u8,
    answered: usize,
}

impl Run {
    fn new(scaling: Scaling, cooldown_us: u64) -> Run {
        let autoscaler = Autoscaler {
            poll_interval_us: 1_000_000,
            upscale_cooldown_us: cooldown_us,
            downscale_cooldown_us: cooldown_us,
        };
        let settings = Settings { autoscaler: Some(autoscaler.clone()), ..Settings::default() };
        let mut run = Run {
            shard: Shard::new(Limits::default(), 7, settings),
            now: Now { mono_us: 0, unix_ms: 1_700_000_000_000 },
            function: None,
            attempts: Vec::new(),
            ordered: None,
            desired: scaling.min_replicas,
            calls: 0,
            answered: 0,
            scaling,
            autoscaler,
        };
        let policy = Policy { concurrency: 6, queue_size: 200, timeout_ms: 3_600_000, ..Policy::default() };
        let spec = FunctionSpec {
            name: name(),
            policy,
            target: Target::Backend,
            scaling: Some(Box::new(run.scaling.clone())),
            document: Bytes::new(),
        };
        run.handle(Input::Ask(Ticket(u64::MAX), Request::Register(Box::new(spec))));
        let provisioned = Provisioned {
            document: Bytes::new(),
            target: Target::Backend,
            endpoints: addresses(run.desired),
            desired: run.desired,
        };
        let function = run.function.expect("its provisioning was asked for");
        run.handle(Input::Backend(function, BackendEvent::Provisioned(Ok(provisioned))));
        run
    }

    fn handle(&mut self, input: Input) {
        let is_manual = matches!(input, Input::Ask(_, Request::Scale { .. }));
        let mut effects = Effects::default();
        self.shard.handle(self.now, input, &mut effects);
        let works = self.works();
        for effect in effects.drain() {
            match effect {
                Effect::Provision { function, .. } => self.function = Some(function),
                Effect::Dispatch(dispatch) => self.attempts.push(dispatch.attempt),
                Effect::Reply { ticket, .. } if ticket.0 < 1000 => self.answered += 1,
                Effect::Scale { replicas, .. } => {
                    assert_eq!(self.ordered, None, "an order while another is carried out");
                    self.ordered = Some(replicas);
                    if !is_manual {
                        let Scaling { min_replicas, max_replicas, .. } = self.scaling;
                        assert!((min_replicas..=max_replicas).contains(&replicas), "{replicas}");
                        assert!(replicas > 0 || !works, "none, while something waits or runs");
                        assert_ne!(replicas, self.desired, "an order that changes nothing");
                    }
                }
                _ => {}
            }
        }
        invariant::check(&self.shard).expect("sound");
    }

    fn works(&self) -> bool {
        self.shard.functions().any(|(_, view)| view.queue_depth + view.in_flight > 0)
    }

    fn op(&mut self, op: &Op) {
        let function = self.function.expect("it is registered");
        match *op {
            Op::Call if self.calls < 100 => {
                self.calls += 1;
                let mut id = [0; 16];
                id[0] = self.calls;
                self.handle(Input::Lease(Lease::Calls { second: self.now.second(), calls: 9 }));
                self.handle(Input::Ask(
                    Ticket(self.calls.into()),
                    Request::Invoke(Invoke {
                        id: ExecutionId::new(id, 0),
                        name: name(),
                        payload: Payload::json(Bytes::new()),
                        timeout_ms: None,
                        extra: None,
                    }),
                ));
            }
            Op::Answer if !self.attempts.is_empty() => {
                let attempt = self.attempts.remove(0);
                let report = Report::warm(Outcome::Success(Output::null()));
                self.handle(Input::Dispatch(attempt, DispatchEvent::Finished(report)));
            }
            Op::Scaled(well) => {
                let Some(replicas) = self.ordered.take() else { return };
                let failure = shard_core::answer::BackendFailure {
                    kind: shard_core::answer::BackendFailureKind::Unavailable,
                    message: "away".into(),
                };
                if well {
                    self.desired = replicas;
                }
                let result = if well { Ok(replicas) } else { Err(failure) };
                self.handle(Input::Backend(function, BackendEvent::Scaled(result)));
            }
            Op::Ready(ready) => {
                let endpoints = addresses(ready.min(self.desired));
                self.handle(Input::Backend(
                    function,
                    BackendEvent::EndpointsChanged { endpoints, desired: self.desired },
                ));
            }
            Op::Set(replicas) => {
                // What is due comes first, and while an order is carried out this one would only wait.
                self.handle(Input::Turn);
                if self.ordered.is_some() {
                    return;
                }
                self.handle(Input::Ask(Ticket(u64::MAX - 1), Request::Scale { name: name(), replicas }));
            }
            Op::Turned(on) => {
                let autoscaler = on.then(|| self.autoscaler.clone());
                self.handle(Input::Control(Control::Configure(Settings {
                    autoscaler,
                    ..Settings::default()
                })));
            }
            Op::Pass(ms) => {
                self.now.mono_us += ms * 1000;
                self.now.unix_ms += ms;
                self.handle(Input::Turn);
            }
            Op::Call | Op::Answer => {}
        }
    }

    /// With a backend that does what it is told, everything that was called for is answered, and an idle function
    /// ends with as few replicas as it may have.
    fn settle(&mut self) {
        self.op(&Op::Turned(true));
        for _ in 0..500 {
            let all_answered = self.answered == usize::from(self.calls);
            if all_answered && self.ordered.is_none() && self.desired == self.scaling.min_replicas {
                return;
            }
            self.op(&Op::Scaled(true));
            self.op(&Op::Ready(u32::MAX));
            self.op(&Op::Answer);
            self.op(&Op::Pass(1000));
        }
        panic!("{} of {} calls answered, {} replicas", self.answered, self.calls, self.desired);
    }
}

fn name() -> Name {
    Name::new("f").expect("a name")
}

fn addresses(count: u32) -> Vec<ReplicaAddress> {
    let of = |number: u32| ReplicaAddress { replica: number.into(), address: format!("p{number}").into() };
    (0..count).map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn orders_are_within_bounds_and_calls_get_through(
        scaling in scaling(),
        cooldown_us in prop_oneof![Just(0), 0..20_000_000_u64],
        ops in vec(op(), 0..150),
    ) {
        let mut run = Run::new(scaling, cooldown_us);
        for op in &ops {
            run.op(op);
        }
        run.settle();
    }
}
