//! docs/metrics.md against a running server: every family is in one of its tables, with its type and labels, and every
//! line of the tables is a family.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{exposition::Exposition, golden};

/// A line of the tables.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) kind: String,
    pub(super) labels: BTreeSet<String>,
}

/// What the document says, by name.
pub(super) fn described() -> BTreeMap<String, Described> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let mut families = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { panic!("not four cells: {line}") };
        let word = |text: &str| text.trim_matches('`').to_owned();
        assert!(!meaning.is_empty(), "{line}");
        let labels = labels.split(", ").map(word).filter(|label| !label.is_empty()).collect();
        let before = families.insert(word(name), Described { kind: kind.to_owned(), labels });
        assert_eq!(before, None, "twice: {line}");
    }
    families
}

#[test]
fn the_document_describes_every_family() {
    let described = described();
    let exposition = Exposition::of(&golden::scenario());
    let told: BTreeSet<&str> = exposition.0.iter().map(|family| family.name.as_str()).collect();
    let written: BTreeSet<&str> = described.keys().map(String::as_str).collect();
    assert_eq!(told, written, "what the server tells, and what docs/metrics.md describes");
    for family in &exposition.0 {
        let Described { kind, labels } = &described[&family.name];
        assert_eq!(kind, &family.kind, "{}", family.name);
        for sample in &family.samples {
            let told = sample.labels.iter().map(|(label, _)| label.clone());
            let told: BTreeSet<String> =
                told.filter(|label| !["le", "quantile"].contains(&label.as_str())).collect();
            assert_eq!(&told, labels, "{}", sample.name);
        }
    }
}
