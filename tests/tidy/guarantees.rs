//! `docs/guarantees.md` promises nothing without a test.

use super::{assert_none, sources};

/// Every promise names tests, and they exist.
#[test]
fn every_guarantee_is_tested() {
    let sources = sources();
    let document = sources.iter().find(|source| source.path == "docs/guarantees.md").expect("the document");
    let programs: Vec<_> = sources.iter().filter(|source| source.path.ends_with(".rs")).collect();
    let is_test =
        |name: &str| programs.iter().any(|source| source.text.contains(&format!("#[test]\nfn {name}()")));
    let mut found = Vec::new();
    let mut promises = 0;
    for row in document.text.lines().filter(|line| line.starts_with("| ")) {
        let Some((promise, tests)) = row.trim_matches(['|', ' ']).split_once(" | ") else { continue };
        if promise == "promise" {
            continue;
        }
        promises += 1;
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            found.push(format!("{promise}: names no test"));
        }
        found.extend(names.iter().filter(|name| !is_test(name)).map(|name| format!("{promise}: {name}")));
    }
    assert!(promises > 20, "the document has only {promises} rows");
    assert_none("is promised, and there is no such test", found);
}
