//! Outgoing HTTP. The only folder that names hyper's client.

pub mod client;
