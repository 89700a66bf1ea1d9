//! Documents lead somewhere: their links, the paths that they name, and an index that leads to each of them.

use std::{collections::BTreeSet, fs, path::Path};

use super::{Source, assert_none, sources};

/// Folders whose files documents name by their paths.
const FOLDERS: [&str; 12] = [
    ".ci/",
    ".github/",
    "benches/",
    "crates/",
    "deploy/",
    "docs/",
    "examples/",
    "fuzz/",
    "loadtest/",
    "shards/",
    "src/",
    "tests/",
];
/// Paths that documents name although they are not there: what somebody makes by following the text.
const MADE: [&str; 1] = ["fuzz/artifacts/"];

/// Every relative link of a document leads to a file or folder, and to a heading where it names one.
#[test]
fn every_link_leads_somewhere() {
    let sources = sources();
    let mut found = Vec::new();
    let mut count = 0;
    for document in documents(&sources) {
        for (number, line) in prose(document) {
            for link in links(line).filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
                count += 1;
                let (path, heading) = link.split_once('#').unwrap_or((link, ""));
                let path =
                    if path.is_empty() { Some(document.path.clone()) } else { resolve(document, path) };
                let leads = path.is_some_and(|path| {
                    let heads = |target: &Source| target.path == path && headings(target).contains(heading);
                    exists(&path) && (heading.is_empty() || sources.iter().any(heads))
                });
                if !leads {
                    found.push(format!("{}:{number}: {link}", document.path));
                }
            }
        }
    }
    assert!(count > 40, "only {count} links were found");
    assert_none("leads nowhere", found);
}

/// A path of the repository that a document names exists, so that a file that moves takes the documents along.
#[test]
fn every_path_that_is_named_exists() {
    let sources = sources();
    let mut found = Vec::new();
    for document in documents(&sources) {
        for (number, line) in prose(document) {
            for word in line.split('`').skip(1).step_by(2) {
                let is_path = FOLDERS.iter().any(|folder| word.starts_with(folder))
                    && word.chars().all(|letter| letter.is_alphanumeric() || "/._-".contains(letter))
                    && !MADE.iter().any(|made| word.starts_with(made));
                // A module is named without its ending. A package's document may name paths of the package.
                let from_root = exists(word) || exists(&format!("{word}.rs"));
                if is_path && !from_root && !resolve(document, word).is_some_and(|path| exists(&path)) {
                    found.push(format!("{}:{number}: {word}", document.path));
                }
            }
        }
    }
    assert_none("is named, and is not there", found);
}

/// Whoever opens a folder of documents finds each of them in its README.
#[test]
fn every_page_is_in_the_index_of_its_folder() {
    let sources = sources();
    let mut found = Vec::new();
    for document in documents(&sources).filter(|document| document.path.starts_with("docs/")) {
        let (folder, name) = document.path.rsplit_once('/').expect("a folder");
        // The index of a folder is a page of the folder above.
        let (folder, name) = match (name, folder.rsplit_once('/')) {
            ("README.md", Some((above, folder))) => (above, format!("{folder}/README.md")),
            ("README.md", None) => continue,
            _ => (folder, name.to_owned()),
        };
        let index = sources.iter().find(|source| source.path == format!("{folder}/README.md"));
        let is_listed = |index: &Source| {
            prose(index)
                .any(|(_, line)| links(line).any(|link| link.split('#').next() == Some(name.as_str())))
        };
        if !index.is_some_and(is_listed) {
            found.push(document.path.clone());
        }
    }
    assert_none("is in no index", found);
}

fn documents(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.ends_with(".md"))
}

/// Lines outside of blocks of code, with their numbers.
fn prose(document: &Source) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    let lines = document.text.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.map(|(index, line)| (index + 1, line))
}

/// Targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Names of headings as forges make them: lower case, hyphens for spaces, no other signs.
fn headings(document: &Source) -> BTreeSet<String> {
    let heads = prose(document).filter(|(_, line)| line.starts_with('#'));
    heads
        .map(|(_, line)| {
            let kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
            let text: String = line.trim_start_matches('#').trim().chars().filter(kept).collect();
            text.to_lowercase().replace(' ', "-")
        })
        .collect()
}

/// A path from a document, from the root; none when it leads out of the repository.
fn resolve(document: &Source, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = document.path.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn exists(path: &str) -> bool {
    fs::exists(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or(false)
}
