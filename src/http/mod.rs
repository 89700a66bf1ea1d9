//! Incoming HTTP: the API's listener and the way to the handlers, and the management listener.
//!
//! `listener` accepts and spreads connections, `connection` serves them on a thread (`io` watches the stream,
//! `framing` refuses requests with two lengths, `origin` those of other sites), `route` finds the path, `handlers` do what it asks for with
//! `request` and `respond`.

pub mod body;
pub mod connection;
pub(crate) mod framing;
pub mod handlers;
mod io;
mod list;
pub mod listener;
#[doc(hidden)]
pub mod measured;
pub mod openapi;
pub mod origin;
mod query;
mod request;
mod respond;
pub mod route;

pub(crate) use route::fuzz as fuzz_route;
