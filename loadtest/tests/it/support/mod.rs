//! Servers to be loaded, and the binary that loads them.

pub(crate) mod binary;
pub(crate) mod program;
pub(crate) mod server;

pub(crate) use self::{
    binary::{Ran, loadtest},
    program::nanofaas,
    server::{Reply, Request, Server},
};

/// The answer of a function that succeeded.
pub(crate) const SUCCESS: &str = r#"{"executionId":"e","status":"success","output":1,"error":null}"#;
