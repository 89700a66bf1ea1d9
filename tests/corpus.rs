//! What fuzzing has found and what it starts from, in `fuzz/corpus`: every file through its target, without a fuzzer.

use std::{fs, path::Path};

use nanofaas::fuzzing::TARGETS;

#[test]
fn every_file_of_the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, check) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpus.join(target)).expect("a folder per target") {
            let path = entry.expect("an entry").path();
            let bytes = fs::read(&path).expect("a file");
            if let Err(broken) = check(&bytes) {
                panic!("{}: {broken}", path.display());
            }
            // What is cut off somewhere is what connections and disks leave behind.
            for end in (0..bytes.len().min(256)).step_by(7) {
                check(&bytes[..end]).unwrap_or_else(|broken| panic!("{} to {end}: {broken}", path.display()));
            }
            count += 1;
        }
        assert!(count >= 5, "the corpus of {target} has only {count} files");
    }
}

#[test]
fn every_target_can_be_fuzzed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
    for (target, _) in TARGETS {
        let program = fs::read_to_string(root.join(format!("targets/{target}.rs"))).expect("a program");
        assert!(program.contains(&format!("run(\"{target}\", bytes)")), "{target}.rs fuzzes something else");
        assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target} is not built");
    }
}
