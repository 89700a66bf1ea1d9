//! Black box: the binary on its command line, against small servers.

mod crashes;
mod errors;
mod files;
mod fleets;
mod interrupts;
mod loops;
mod results;
mod rolling;
mod scenarios;
mod searches;
mod support;
