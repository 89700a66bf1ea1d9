//! Tests of the shard from outside: scripts with the effects they must cause (`table`, one file per stage), and
//! random scripts that are compared with a naive model (`model`).

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "bans are for the core; its tests read files and their environment"
)]

mod model;
mod overload;
mod scaling;
mod script;
mod table;
