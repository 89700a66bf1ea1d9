//! The `nanofaas` binary: server, command line and watchdog in one.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    nanofaas::cli::main()
}
