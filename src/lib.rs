//! The server of nanofaas, a function-as-a-service control plane.
//!
//! This crate connects the decisions to the world. The decisions are made in `shard-core`, and `shard-runtime` carries
//! them between threads; `nanofaas-store` keeps what survives a crash; `nanofaas-backends` runs functions, and
//! `nanofaas-watchdog` is between the server and a program. Start reading at [`server`].

pub mod config;
pub mod delivery;
pub mod deployments;
mod descriptors;
pub mod dispatch;
pub mod durable;
#[cfg(feature = "kubernetes")]
pub mod external_metrics;
#[doc(hidden)]
pub mod fuzzing;
mod host;
pub mod http;
mod ids;
pub mod management;
#[cfg(feature = "kubernetes")]
pub mod resources;
#[cfg(not(feature = "kubernetes"))]
#[path = "resources/absent.rs"]
pub mod resources;
pub mod runtime_config;
pub mod server;
pub mod telemetry;
