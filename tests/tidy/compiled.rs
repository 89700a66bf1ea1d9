//! Every file is part of a crate: the `mod` declarations are followed from where Cargo looks for crates.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, assert_none, sources};

/// A file that no `mod` names is never compiled, and rots unseen.
#[test]
fn every_file_is_compiled() {
    let sources = sources();
    let rust: BTreeMap<&str, &Source> = sources
        .iter()
        .filter(|source| source.is_rust())
        .map(|source| (source.path.as_str(), source))
        .collect();
    let packages: Vec<&str> =
        sources.iter().filter_map(|source| source.path.strip_suffix("Cargo.toml")).collect();
    // That of the server has its files beside it: they are where those of the root package would be.
    let packages: Vec<&str> = packages.into_iter().filter(|package| *package != "src/").collect();
    let roots = rust.keys().filter(|path| place(&packages, path).is_some_and(is_root));
    let mut left: Vec<String> = roots.map(|path| (*path).to_owned()).collect();
    let mut reached = BTreeSet::new();
    while let Some(path) = left.pop() {
        // A module is one file or the other; the compiler has seen to it that there is one.
        if let Some(source) = rust.get(path.as_str())
            && reached.insert(path.clone())
        {
            left.extend(modules(source, place(&packages, &path).is_some_and(is_root)));
        }
    }
    let dead = rust.keys().filter(|path| place(&packages, path).is_some() && !reached.contains(**path));
    assert_none("no `mod` names this file", dead.map(|path| (*path).to_owned()));
}

/// A file's path in its package, for the folders in which Cargo looks for crates. Examples are compiled by their users.
fn place<'a>(packages: &[&str], path: &'a str) -> Option<&'a str> {
    let within =
        packages.iter().filter_map(|package| path.strip_prefix(package)).min_by_key(|rest| rest.len());
    within.filter(|path| ["src/", "tests/", "benches/"].iter().any(|folder| path.starts_with(folder)))
}

/// Whether Cargo starts a crate with this file, as its path in the package says.
fn is_root(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["src", name] => ["lib.rs", "main.rs"].contains(&name),
        ["src", "bin", _, name] => name == "main.rs",
        ["tests" | "benches", _] => true,
        ["tests" | "benches", _, name] => name == "main.rs",
        _ => false,
    }
}

/// Files in which the modules that this one declares may be.
fn modules(source: &Source, is_root: bool) -> Vec<String> {
    let (folder, name) = source.path.rsplit_once('/').expect("in a folder");
    let stem = name.strip_suffix(".rs").expect("a Rust file");
    let inner = if is_root || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    let mut files = Vec::new();
    let mut renamed = None;
    for line in source.text.lines() {
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            renamed = Some(path);
        }
        let Some((visibility, name)) = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod "))
        else {
            continue;
        };
        if !["", "pub ", "pub(crate) ", "pub(super) "].contains(&visibility) {
            continue;
        }
        match renamed.take() {
            Some(path) => files.push(plain(&format!("{folder}/{path}"))),
            None => files.extend([format!("{inner}/{name}.rs"), format!("{inner}/{name}/mod.rs")]),
        }
    }
    files
}

/// A path without `..`.
fn plain(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}
