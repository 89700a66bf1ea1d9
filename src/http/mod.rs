//! Incoming HTTP. The only folder that names hyper's server.
//!
//! `listener` accepts and spreads connections, `connection` serves them on a thread (`io` watches the stream,
//! `framing` refuses requests with two lengths, `origin` those of other sites), `route` finds the path, `handlers` do what it asks for with
//! `request` and `respond`. `management` and `serve` are the side doors.

pub mod connection;
mod framing;
pub mod handlers;
pub mod headers;
mod io;
mod list;
pub mod listener;
pub mod management;
#[doc(hidden)]
pub mod measured;
pub mod origin;
mod query;
mod request;
mod respond;
pub mod route;
pub mod serve;

pub(crate) use route::fuzz as fuzz_route;
