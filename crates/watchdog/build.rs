//! Gives the watchdog a fingerprint of its sources, so that a server can tell whether a binary is the watchdog that it was
//! built with. A version number would not do: it stays the same while somebody works on the code.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut files = Vec::new();
    for folder in [here.join("src"), here.join("../web/src")] {
        println!("cargo::rerun-if-changed={}", folder.display());
        collect(&folder, &mut files)?;
    }
    // In an order that does not depend on the file system. Names tell when a file moves.
    files.sort();
    let mut hash = FNV_OFFSET;
    for file in files {
        let name = file.strip_prefix(&here).unwrap_or(&file).display().to_string();
        hash = [name.as_bytes(), &fs::read(&file)?].into_iter().fold(hash, fnv);
    }
    println!("cargo::rustc-env=WATCHDOG_FINGERPRINT={hash:016x}");
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// FNV-1a, which is the same with every compiler; nobody has to be kept from finding collisions.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
