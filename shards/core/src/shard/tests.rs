//! What can be seen from inside only.

use bytes::Bytes;

use super::*;
use crate::input::{FunctionSpec, Policy, Target};

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
        let register = Input::Register { ticket: Ticket(0), spec: Box::new(spec) };
        shard.handle(Now { mono_us: 0, unix_ms: 0 }, register, &mut Effects::default());
    }
    assert_eq!(shard.totals().drift, 0);
    let keys: Vec<FunctionKey> = shard.functions.iter().map(|(key, _)| key).collect();
    for (key, off) in keys.into_iter().zip([2, 3]) {
        let function = shard.functions.get_mut(key).expect("it was registered");
        function.accounting.accepted += off;
        function.in_flight += off as u32 * 10;
    }
    assert_eq!(shard.totals().drift, 5 + 50);
}
