//! The watchdog from outside: real programs, real sockets, real signals.

#[path = "support/watchdog.rs"]
mod support;

#[path = "watchdog/http.rs"]
mod http;
#[path = "watchdog/one_shot.rs"]
mod one_shot;
#[path = "watchdog/per_call.rs"]
mod per_call;
#[path = "watchdog/survival.rs"]
mod survival;
