//! What all targets do with the fuzzer's bytes.

/// Runs a target of `nanofaas::fuzzing`; a property that does not hold is a crash.
///
/// # Panics
/// When it does not hold.
pub fn run(target: &str, bytes: &[u8]) {
    if let Err(broken) = nanofaas::fuzzing::check(target, bytes) {
        // The fuzzer learns of it by a panic alone.
        panic!("{target}: {broken}");
    }
}
