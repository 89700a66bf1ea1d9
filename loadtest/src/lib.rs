//! Load tests for functions over HTTP.
//!
//! A [`plan::Scenario`] says what to send; [`plan::Plan`] is the same, checked and built; [`run::run`] carries it out on
//! threads of its own and gives what was [`record`]ed; [`report`] makes text, JSON and a page of it. The command line
//! is in [`cli`]. Nothing here knows the server's code: it is measured from outside, as any other server is.

pub mod cli;
pub mod client;
pub mod cores;
pub mod crash;
pub mod interrupt;
pub mod monitor;
pub mod plan;
pub mod record;
pub mod report;
pub mod run;
pub mod serve;
pub mod server;
