//! Metrics of the systems behind backends.

use std::time::Duration;

use super::prometheus::{Exposition, Kind, Labels};

/// Appends how long ago each of them was last heard. Backends without such a system have none.
pub fn render(text: &mut Exposition, silences: &[(&'static str, Duration)]) {
    let name = "nanofaas_backend_silence_seconds";
    text.family(name, Kind::Gauge, "Time since the backend last heard of the system that runs its replicas.");
    for (backend, silence) in silences {
        text.sample(name, &Labels::of(&[("backend", backend)]), silence.as_secs_f64());
    }
}
