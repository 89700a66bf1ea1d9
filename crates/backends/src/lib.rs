//! What runs the replicas of DEPLOYMENT functions.
//!
//! A backend takes [`Order`]s without ever blocking the caller, does the slow work on threads of its own, and
//! reports through [`Events`]. It never touches a shard: events become inputs of the owner.

use std::sync::Arc;

use nanofaas_wire::function::FunctionSpec;
use shard_core::FunctionKey;

pub mod process;

/// Names a function towards a backend, from its provisioning to its teardown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionRef {
    /// Its owner.
    pub shard: u16,
    /// Its key there.
    pub key: FunctionKey,
}

/// Something to do for a function. Orders of one function come one after the other: the next one only after
/// the event that ends the one before.
#[derive(Debug, Clone)]
pub enum Order {
    /// Start the first replicas. Ends with [`Events::provisioned`].
    Provision {
        /// The function.
        function: FunctionRef,
        /// What to run.
        spec: Arc<FunctionSpec>,
    },
    /// Have this many replicas. Ends with [`Events::scaled`], which does not wait for them to be ready.
    Scale {
        /// The function.
        function: FunctionRef,
        /// How many.
        replicas: u32,
    },
    /// Stop all replicas: calls in flight may finish, within their timeout. Ends with [`Events::torn_down`].
    Teardown {
        /// The function.
        function: FunctionRef,
    },
}

/// Why an order failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// Replicas did not become ready. The text says what they wrote and what to do.
    #[error("{0}")]
    Provisioning(String),
    /// The backend cannot be reached, or is shutting down.
    #[error("{0}")]
    Unavailable(String),
    /// Replicas could not be removed.
    #[error("{0}")]
    Teardown(String),
}

/// Replicas of a function that are up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// Addresses to which calls are sent, such as `http://127.0.0.1:40001/invoke`.
    pub endpoints: Vec<Arc<str>>,
    /// How many replicas are wanted.
    pub desired: u32,
}

/// Where a backend reports. Cheap, never blocks, called from any thread.
pub trait Events: Send + Sync {
    /// Ends [`Order::Provision`]. After a failure nothing of the function is left behind.
    fn provisioned(&self, function: FunctionRef, result: Result<Replicas, BackendError>);
    /// Ends [`Order::Scale`], with the wanted number.
    fn scaled(&self, function: FunctionRef, result: Result<u32, BackendError>);
    /// Ends [`Order::Teardown`].
    fn torn_down(&self, function: FunctionRef, result: Result<(), BackendError>);
    /// A replica became ready, died, or was asked to go. Never before `provisioned`.
    fn replicas_changed(&self, function: FunctionRef, replicas: Replicas);
}

/// Runs replicas.
pub trait Backend: Send + Sync {
    /// The word for it in `deployment.backends` and in FunctionResponse.
    fn id(&self) -> &'static str;
    /// Whether it can run this function; the reason why not, for a person.
    ///
    /// # Errors
    /// The reason.
    fn supports(&self, spec: &FunctionSpec) -> Result<(), String>;
    /// Takes an order. Never blocks.
    fn submit(&self, order: Order);
    /// Stops every replica and waits for it, at most `grace`. Orders that come later are refused.
    fn shut_down(&self, grace: std::time::Duration);
}
