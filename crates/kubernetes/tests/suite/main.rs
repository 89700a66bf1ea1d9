//! The Kubernetes backend, as far as it needs no cluster: [`golden`] plans, and the backend at a scripted API server
//! ([`api_server`]): [`backend`] what it does, [`asking`] how the first replica takes calls early, [`checks`] how it checks
//! images, [`jobs`] what it does with mode REMOTE, [`watching`] what it does when watches fail; [`definition`],
//! [`steps`] and [`resources`]: functions as resources.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

mod api_server;
mod asking;
mod backend;
mod checks;
mod definition;
mod golden;
mod jobs;
mod resources;
mod rig;
mod steps;
mod telling;
mod watching;
