//! A minimal HTTP/1.1 client: addresses, answers, requests that are bytes already.
//!
//! It is no general client: no redirects, no proxies, no TLS, no pipelining. What it leaves out is what would make
//! the load generator the slower side.

pub mod address;
mod chunks;
pub mod exchange;
pub(crate) mod head;
pub(crate) mod reader;
pub(crate) mod request;
