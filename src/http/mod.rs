//! Incoming HTTP. The only folder that names hyper's server.

pub mod headers;
pub mod serve;
