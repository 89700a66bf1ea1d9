//! Wire types: what clients send and read. The only place that serialises.

pub mod spec;
