//! What goes over the wire: what clients send and read. The only place that serialises types of the core.

pub mod about;
pub mod callback;
pub mod envelope;
pub mod error;
pub mod function;
pub mod headers;
pub mod media_type;
pub mod replicas;
pub mod result;
pub mod runtime_config;
pub mod scaling;
pub mod suggest;
