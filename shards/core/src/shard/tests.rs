//! What can be seen from inside only.

use bytes::Bytes;

use super::*;
use crate::{
    call::Ticket,
    function::Runner,
    input::{BackendEvent, Control, Request},
    scaling::{ConcurrencyControl, Metric, MetricTarget, Scaling},
    settings::Autoscaler,
    spec::{FunctionSpec, Policy, Provisioned, ReplicaAddress, Target},
};

fn shard() -> Shard {
    Shard::new(Limits::default(), 1_234_567, Settings::default())
}

#[test]
fn random_numbers_are_those_of_splitmix64() {
    let mut shard = shard();
    let numbers: Vec<u64> = (0..3).map(|_| shard.next_random()).collect();
    assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
}

#[test]
fn whatever_accounts_and_slots_are_off_by_is_told() {
    let mut shard = shard();
    for name in ["f", "g"] {
        let spec = FunctionSpec {
            name: Name::new(name).expect("valid"),
            policy: Policy::default(),
            target: Target::Local,
            scaling: None,
            document: Bytes::new(),
        };
        let register = Input::Ask(Ticket(0), Request::Register(Box::new(spec)));
        shard.handle(Now { mono_us: 0, unix_ms: 0 }, register, &mut Effects::default());
    }
    assert_eq!(shard.totals().drift, 0);
    let keys: Vec<FunctionKey> = shard.functions.iter().map(|(key, _)| key).collect();
    for (key, off) in keys.into_iter().zip([2, 3]) {
        let function = shard.functions.get_mut(key).expect("it was registered");
        function.accounting.admitted += off;
        function.in_flight += off as u32 * 10;
    }
    assert_eq!(shard.totals().drift, 5 + 50);
}

#[test]
fn how_a_function_is_scaled_is_seen_and_when_that_is_decided_again() {
    let mut shard = shard();
    let at = |ms: u64| Now { mono_us: ms * 1000, unix_ms: ms };
    let handle = |shard: &mut Shard, ms, input| shard.handle(at(ms), input, &mut Effects::default());
    let autoscaler =
        Autoscaler { poll_interval_us: 5_000_000, upscale_cooldown_us: 0, downscale_cooldown_us: 0 };
    let scaling = |control| {
        let metrics = vec![MetricTarget { metric: Metric::QueueDepth, target: 5.0 }];
        Some(Box::new(Scaling { min_replicas: 1, max_replicas: 3, metrics, control }))
    };
    for (name, target, scaling) in [
        ("fixed", Target::Backend, scaling(ConcurrencyControl::Fixed)),
        ("static", Target::Backend, scaling(ConcurrencyControl::StaticPerPod { target: 4 })),
        ("local", Target::Local, None),
    ] {
        let name = Name::new(name).expect("valid");
        let spec = FunctionSpec { name, policy: Policy::default(), target, scaling, document: Bytes::new() };
        handle(&mut shard, 0, Input::Ask(Ticket(0), Request::Register(Box::new(spec))));
    }
    let keys: Vec<FunctionKey> = shard.functions.iter().map(|(key, _)| key).collect();
    for function in keys {
        let (document, target) = (Bytes::new(), Target::Backend);
        let result = Ok(Provisioned {
            document,
            target,
            endpoints: vec![ReplicaAddress { replica: 1, address: "a".into() }],
            desired: 1,
        });
        handle(&mut shard, 0, Input::Backend(function, BackendEvent::Provisioned(result)));
        let function = shard.functions.get_mut(function).expect("it was registered");
        let is_scaled = function.scaling.is_some();
        function.runner = if is_scaled { Runner::Backend } else { Runner::Address };
    }
    handle(
        &mut shard,
        0,
        Input::Control(Control::Configure(Settings { autoscaler: Some(autoscaler), ..Settings::default() })),
    );
    // It decides at once, and again after its interval.
    handle(&mut shard, 1, Input::Turn);
    let due_us = shard.scaling.timer.and_then(|timer| shard.timers.due_us(timer)).expect("it decides");
    shard.now = at(2000);
    let seen = |name: &str| {
        let name = Name::new(name).expect("valid");
        let (_, function) =
            shard.functions.iter().find(|(_, function)| function.name == name).expect("there");
        let target = function.view().scaling.map(|view| view.target_per_replica);
        (shard.report(function).next_ms, target)
    };
    let next_ms = Some(due_us / 1000 - 2000);
    assert_eq!(seen("fixed").0, next_ms);
    assert_eq!(seen("static"), (next_ms, Some(4)));
    assert_eq!(seen("local"), (None, None), "it has no replicas");
}

#[test]
fn a_step_that_cannot_be_is_counted_and_fails_the_audit() {
    let mut shard = shard();
    assert_eq!((shard.totals().impossible, crate::invariant::check(&shard)), (0, Ok(())));
    // A function that nobody registered is written down, and what is not in a queue is dispatched.
    shard.registration_is_safe(FunctionKey::NONE, &mut Effects::default());
    shard.dispatch(ExecutionKey::NONE, &mut Effects::default());
    assert_eq!(shard.totals().impossible, 2);
    let told = crate::invariant::check(&shard).expect_err("it is told");
    assert!(told.contains("registry.rs"), "the first place: {told}");
}
