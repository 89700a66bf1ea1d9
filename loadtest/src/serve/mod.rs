//! A minimal HTTP/1.1 server: one thread, a poll, and a function that answers.
//!
//! It serves `loadtest static`, which the load generator is measured against, and receives callbacks. It understands
//! requests with `Content-Length`; anything else gets no answer but a closed connection.

pub(crate) mod callbacks;
mod connection;
mod server;

pub use self::server::Server;
pub(crate) use self::{
    connection::{Incoming, parse},
    server::Stopper,
};
