//! The watchdog from outside: real programs, real sockets, real signals.

mod door;
mod http;
mod one_shot;
mod per_call;
mod support;
mod survival;
