//! Without Kubernetes, functions are no resources.

use std::convert::Infallible;

use nanofaas_wire::{error::ApiError, function::FunctionSpec};

/// There are none.
pub struct Resources(Infallible);

impl Resources {
    /// Nobody can ask.
    ///
    /// # Errors
    /// None.
    pub async fn register(&self, _: FunctionSpec) -> Result<Vec<u8>, ApiError> {
        match self.0 {}
    }

    /// The same.
    ///
    /// # Errors
    /// None.
    pub async fn remove(&self, _: &str) -> Result<(), ApiError> {
        match self.0 {}
    }

    /// The same.
    ///
    /// # Errors
    /// None.
    pub async fn scale(&self, _: &str, _: u32) -> Result<u32, ApiError> {
        match self.0 {}
    }

    /// The same.
    pub fn end(&self) {
        match self.0 {}
    }
}
