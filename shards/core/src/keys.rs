//! Names of what a shard keeps in its slabs.

use crate::slab::Key;

/// Tag of [`FunctionKey`].
#[derive(Debug)]
pub enum FunctionTag {}
/// Tag of [`AttemptKey`].
#[derive(Debug)]
pub enum AttemptTag {}
/// Tag of [`ExecutionKey`].
#[derive(Debug)]
pub(crate) enum ExecutionTag {}
/// Tag of [`EndpointId`].
#[derive(Debug)]
pub enum EndpointTag {}
/// Names an address of a function, from [`crate::Effect::OpenEndpoint`] until [`crate::Effect::CloseEndpoint`].
pub type EndpointId = Key<EndpointTag>;
/// Names a registered function within its shard. Another registration of the same name has another key.
pub type FunctionKey = Key<FunctionTag>;
/// Names an attempt within its shard.
pub type AttemptKey = Key<AttemptTag>;
/// Names an execution within its shard.
pub(crate) type ExecutionKey = Key<ExecutionTag>;
