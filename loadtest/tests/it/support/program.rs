//! The server's program, for commands that start servers themselves.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The program next to the load test's own; built when it is missing, which a test of the whole workspace never needs.
pub(crate) fn nanofaas() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("nanofaas");
    if !binary.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "nanofaas", "--bin", "nanofaas"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.is_ok_and(|status| status.success()), "the server can be built");
    }
    assert!(binary.exists(), "no {}: build it with cargo build --bin nanofaas", binary.display());
    binary
}
