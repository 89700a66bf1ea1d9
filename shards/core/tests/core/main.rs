//! Tests of the shard from outside: scripts with the effects they must cause (`table`, one file per stage), and
//! random scripts that are compared with a naive model (`model`).

mod model;
mod overload;
mod scaling;
mod script;
mod table;
