//! HTTP beside the calls: what the command line, the watchdog and the management listener need of it.
//!
//! Invocations do not pass here: the server's own listener and its dispatcher have faster machinery.

pub mod client;
pub mod host;
pub mod refusal;
pub mod server;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tls")]
pub mod tls_server;
