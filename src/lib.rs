//! nanofaas: a function-as-a-service control plane.
//!
//! This crate is everything that touches the world; what decides lives in `shard-core`, what carries
//! decisions between threads in `shard-runtime`; what survives a crash is kept by
//! `nanofaas-store`; what runs functions is in `nanofaas-backends`, what stands between the server and a program in
//! `nanofaas-watchdog`. Start reading at [`cli`] for what a user can do.

pub mod cli;
pub mod config;
pub mod delivery;
pub mod deployments;
mod descriptors;
pub mod dispatch;
pub mod durable;
mod environment;
#[doc(hidden)]
pub mod fuzzing;
mod host;
pub mod http;
mod ids;
pub mod management;
pub mod runtime_config;
pub mod server;
mod signals;
pub mod telemetry;
