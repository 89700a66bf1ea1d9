//! One thing per word: what `docs/glossary.md` says of types, as far as text can tell.

use std::collections::BTreeMap;

use crate::{Source, assert_none, sources};

/// Names of types that stand for two things in one crate, and why they may.
const DOUBLE_NAMES: &[(&str, &str)] = &[];

#[test]
fn no_type_name_stands_for_two_things_in_a_crate() {
    let sources = sources();
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.is_program()) {
        for (number, line) in source.code() {
            if let Some(name) = declared_type(line) {
                let name = format!("{} {name}", crate_of(source));
                declared.entry(name).or_default().push(format!("{}:{number}", source.path));
            }
        }
    }
    let is_listed = |name: &str| DOUBLE_NAMES.iter().any(|(listed, _)| *listed == name);
    let double = |name: &str| declared.get(name).is_some_and(|places| places.len() > 1);
    assert_none(
        "give each its own name, or say in DOUBLE_NAMES why both have it",
        declared
            .iter()
            .filter(|(name, places)| places.len() > 1 && !is_listed(name))
            .map(|(name, places)| format!("{name}: {}", places.join(", "))),
    );
    assert_none(
        "not declared twice any more: take it out of DOUBLE_NAMES",
        DOUBLE_NAMES.iter().filter(|(name, _)| !double(name)).map(|(name, _)| (*name).to_owned()),
    );
}

/// The package that a source belongs to, by its folder.
fn crate_of(source: &Source) -> &str {
    let folder = source.path.split("/src/").next().unwrap_or_default();
    let name = folder.rsplit('/').next().unwrap_or_default();
    match source.path.strip_prefix("src/") {
        Some(path) if path.starts_with("bin/") => "the program",
        Some(_) => "nanofaas",
        None => name,
    }
}

/// The type that a line declares. Types that belong to a trait are indented, and no declarations of their own.
fn declared_type(line: &str) -> Option<&str> {
    let rest = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => line,
    };
    let (kind, rest) = rest.split_once(' ')?;
    let is_type = ["struct", "enum", "trait", "type"].contains(&kind);
    let end = rest.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(rest.len());
    is_type.then_some(&rest[..end])
}

#[test]
fn a_declaration_is_told_from_other_lines() {
    for (line, name) in [
        ("pub struct Shard {", Some("Shard")),
        ("pub(super) enum Phase<T> {", Some("Phase")),
        ("pub(in crate::cli) type Sink = Box<dyn Fn()>;", Some("Sink")),
        ("struct Unit;", Some("Unit")),
        ("trait Backend: Send {", Some("Backend")),
        ("    type Item = u8;", None),
        ("pub fn shard() -> Shard {", None),
        ("public struct", None),
    ] {
        assert_eq!(declared_type(line), name, "{line}");
    }
}
