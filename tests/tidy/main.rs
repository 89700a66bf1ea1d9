//! Rules of the project that no compiler checks, read off the sources. Numbers are those of the invariants in
//! ARCHITECTURE.md.
//!
//! Everything here works on text: comments and unit tests are cut off where a rule is about the program. A rule that
//! gets an exception names it, with a reason, and an exception that is no longer needed is a failure too.

mod compiled;
mod floors;
mod guarantees;
mod links;
mod silence;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Longest source file, in lines.
const LINES_MAX: usize = 500;
/// Files that may be longer, and why.
const LONG_FILES: [(&str, &str); 0] = [];
/// Folders that are not sources.
const SKIPPED: [&str; 4] = ["target", ".git", ".nanofaas", "__pycache__"];

/// A text file of the project.
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Part of what is shipped: neither an integration test, nor a benchmark, nor an example.
    fn is_program(&self) -> bool {
        let shipped = self.path.starts_with("src/")
            || self.path.starts_with("loadtest/src/")
            || (["crates/", "shards/"].iter().any(|crates| self.path.starts_with(crates))
                && self.path.contains("/src/"));
        let tests = self.path.ends_with("tests.rs") || self.path.contains("/tests/");
        shipped && self.is_rust() && !tests
    }

    /// Lines before the unit tests, which stand last, with their numbers.
    fn lines_without_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut previous = "";
        let lines = self.text.lines().enumerate().take_while(move |(_, line)| {
            let tests = previous == "#[cfg(test)]" && line.ends_with('{');
            previous = line;
            !tests
        });
        lines.map(|(index, line)| (index + 1, line))
    }

    /// The same lines without their comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines_without_tests().map(|(number, line)| {
            let end =
                if line.trim_start().starts_with("//") { 0 } else { line.find(" // ").unwrap_or(line.len()) };
            (number, &line[..end])
        })
    }
}

/// Every text file of the project. A walk, not `git ls-files`: it holds for an unpacked archive as well.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                continue;
            }
            match entry.file_type().expect("a type") {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() => sources.extend(read(root, path)),
                _ => {}
            }
        }
    }
    assert!(sources.len() > 100, "the walk found only {} files", sources.len());
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

fn read(root: &Path, path: PathBuf) -> Option<Source> {
    // What is not text has no lines to check.
    let text = fs::read_to_string(&path).ok()?;
    let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
    Some(Source { path, text })
}

fn manifest(path: &str) -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(path).expect("a manifest").parse().expect("TOML")
}

fn dependencies(manifest: &toml::Table) -> BTreeSet<&str> {
    let table = manifest.get("dependencies").and_then(toml::Value::as_table);
    table.into_iter().flat_map(|table| table.keys()).map(String::as_str).collect()
}

/// Fails with every violation of a rule at once.
#[track_caller]
fn assert_none(rule: &str, violations: impl IntoIterator<Item = String>) {
    let violations: Vec<String> = violations.into_iter().collect();
    assert!(violations.is_empty(), "{rule}:\n  {}\n", violations.join("\n  "));
}

/// Lines of the program's code that contain one of `words`, in files for which `allowed` does not hold.
fn uses(sources: &[Source], words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let files = sources.iter().filter(|source| source.is_program() && !allowed(&source.path));
    let mut found = Vec::new();
    for source in files {
        for (number, line) in source.code() {
            if words.iter().any(|word| contains_word(line, word)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

/// Whether `word` stands in `line`, not as the end or the beginning of a longer name.
fn contains_word(line: &str, word: &str) -> bool {
    let is_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let (bytes, first, last) = (line.as_bytes(), word.as_bytes().first(), word.as_bytes().last());
    line.match_indices(word).any(|(start, _)| {
        let before = start.checked_sub(1).and_then(|before| bytes.get(before));
        let after = bytes.get(start + word.len());
        let is_longer = is_name(first) && is_name(before) || is_name(last) && is_name(after);
        !is_longer
    })
}

/// Invariant 1: the core depends on nothing that could do I/O, read a clock, draw randomness, wait or share. What std
/// has of that is forbidden by `shards/core/clippy.toml`, all but these words of the language.
#[test]
fn the_core_is_pure() {
    let manifest = manifest("shards/core/Cargo.toml");
    assert_eq!(dependencies(&manifest), BTreeSet::from(["bytes"]));
    let sources: Vec<Source> =
        sources().into_iter().filter(|source| source.path.starts_with("shards/core/")).collect();
    // The lifetime is no variable.
    let found = uses(&sources, &["async", "await", "static"], |_| false);
    assert_none(
        "the core names what it must not have",
        found.into_iter().filter(|line| is_not_lifetime(line)),
    );
}

fn is_not_lifetime(line: &str) -> bool {
    contains_word(&line.replace("'static", ""), "static") || !line.contains("'static")
}

/// Invariant 3: what goes over the wire is written and read in `crates/wire`, and core types are not serialisable.
/// Programs that talk to the server or stand behind it read their side of it themselves.
#[test]
fn only_the_api_serialises() {
    let sources = sources();
    let sides = [
        "crates/wire/src/",
        "src/bin/",
        "crates/cli/src/",
        "src/config/",
        "crates/watchdog/src/",
        "src/dispatch/outcome.rs",
        // What is on disk, which is nobody's wire.
        "crates/store/src/function.rs",
        // What the API server of a cluster takes.
        "crates/kubernetes/src/",
        "loadtest/src/",
    ];
    let words = ["serde", "serde_json", "serde_saphyr", "Serialize", "Deserialize"];
    assert_none(
        "serde outside crates/wire",
        uses(&sources, &words, |path| sides.iter().any(|side| path.starts_with(side))),
    );
}

/// Invariant 4: each library that touches the world is named in one folder.
#[test]
fn libraries_keep_to_their_folders() {
    let sources = sources();
    for (words, folders) in [
        (
            &["server::conn", "hyper::server", "hyper_util::server", "hyper::service"][..],
            &["src/http/", "crates/web/src/server.rs"][..],
        ),
        (
            &["client::conn", "hyper::client", "hyper_util::client"],
            &["src/dispatch/", "src/delivery/post.rs", "crates/web/src/client.rs"],
        ),
        (&["hyper_util"], &["src/http/", "src/dispatch/", "src/delivery/post.rs", "crates/web/src/"]),
        (&["tokio_rustls", "rustls_native_certs"], &["crates/web/src/tls"]),
        (&["kube", "k8s_openapi"], &["crates/kubernetes/src/"]),
        (&["clap", "clap_complete"], &["src/bin/", "crates/cli/src/", "loadtest/src/cli/"]),
    ] {
        let allowed = |path: &str| folders.iter().any(|folder| path.starts_with(folder));
        assert_none(&format!("only for {folders:?}"), uses(&sources, words, allowed));
    }
}

/// Invariant 15: what a server hides from its functions is not in its environment any more.
#[test]
fn the_environment_is_read_in_one_place() {
    let sources = sources();
    let allowed = |path: &str| {
        path.starts_with("crates/base/src/environment")
            // The watchdog has an environment of its own, and the process backend passes on what is not hidden.
            || path.starts_with("crates/watchdog/")
            || path == "crates/backends/src/process/watchdog.rs"
            || path.starts_with("loadtest/")
    };
    let words = ["env::var", "env::var_os", "env::vars", "env::vars_os"];
    assert_none("std's view of the environment, which lacks what is hidden", uses(&sources, &words, allowed));
}

/// Invariant 5: one `match` maps errors to HTTP; nobody else chooses the status of an error.
#[test]
fn errors_become_http_in_one_place() {
    let sources = sources();
    let mapping = "fn answer(&self) -> ErrorAnswer";
    let places: Vec<&str> = sources
        .iter()
        .filter(|s| s.is_program() && s.text.contains(mapping))
        .map(|s| s.path.as_str())
        .collect();
    assert_eq!(places, ["crates/wire/src/error.rs"]);

    // Outcomes of a call and of a health check, which are no errors of the API.
    let outcomes = BTreeMap::from([
        ("src/http/handlers/invoke.rs", ["REQUEST_TIMEOUT", "BAD_GATEWAY"].as_slice()),
        ("src/management/mod.rs", &["SERVICE_UNAVAILABLE"]),
    ]);
    let good = ["OK", "CREATED", "ACCEPTED", "NO_CONTENT"];
    let mut found = Vec::new();
    for source in sources.iter().filter(|s| s.is_program() && s.path.starts_with("src/http/")) {
        let outcomes = outcomes.get(source.path.as_str()).copied().unwrap_or_default();
        for (number, line) in source.code() {
            for (_, rest) in line.split("StatusCode::").skip(1).map(|rest| ((), rest)) {
                let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
                let name = &rest[..end.unwrap_or(rest.len())];
                if !good.contains(&name) && !outcomes.contains(&name) {
                    found.push(format!("{}:{number}: StatusCode::{name}", source.path));
                }
            }
        }
    }
    assert_none("statuses of errors are chosen in crates/wire/src/error.rs only", found);
}

/// Invariant 6: input cannot end the process. What could panic carries its proof in a comment.
#[test]
fn panics_are_proven_impossible() {
    let calls = [
        ".unwrap()",
        ".unwrap_err()",
        ".expect(",
        ".expect_err(",
        "panic!(",
        "unreachable!(",
        "assert!(",
        "assert_eq!(",
    ];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.is_program()) {
        let mut proven = false;
        let code: BTreeMap<usize, &str> = source.code().collect();
        for (number, line) in source.lines_without_tests() {
            let proof = proven || line.contains("// ");
            if calls.iter().any(|call| contains_word(code[&number], call)) && !proof {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
            proven = line.trim_start().starts_with("// ");
        }
    }
    assert_none("may panic, and no comment on or above the line says why it cannot", found);
}

/// Invariant 8: black-box tests are black-box. They would still hold for a server in another language.
#[test]
fn black_box_tests_do_not_link_the_server() {
    let black_box = ["tests/it/", "crates/watchdog/tests/", "loadtest/"];
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| black_box.iter().any(|folder| s.path.starts_with(folder))) {
        for (number, line) in source.text.lines().enumerate() {
            let names = [
                "nanofaas::",
                "nanofaas_base",
                "nanofaas_cli",
                "nanofaas_store",
                "nanofaas_watchdog",
                "nanofaas_web",
                "shard_core",
                "shard_runtime",
            ];
            if names.iter().any(|name| contains_word(line, name)) {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert_none("names the server's own code", found);
}

/// Invariant 9: no crate can opt out of the workspace's lints, and those forbid `unsafe`.
#[test]
fn every_crate_has_the_lints() {
    let sources = sources();
    let manifests = sources.iter().filter(|source| source.path.ends_with("Cargo.toml"));
    let mut count = 0;
    for source in manifests {
        count += 1;
        let manifest = manifest(&source.path);
        // One that is outside the workspace says itself what it must not do.
        let is_apart = source.path != "Cargo.toml" && manifest.get("workspace").is_some();
        if is_apart {
            assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"), "{}", source.path);
        } else {
            assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{}", source.path);
        }
    }
    assert!(count >= 3, "only {count} manifests were found");
    let lints = &manifest("Cargo.toml")["workspace"]["lints"];
    assert_eq!(lints["rust"]["unsafe_code"].as_str(), Some("forbid"));
    assert_eq!(lints["clippy"]["unwrap_used"].as_str(), Some("warn"));
}

/// Invariant 10: every route is in the document. That the document's paths are served, and that answers are as
/// described, is tested from outside by `tests/it/openapi`.
#[test]
fn every_route_is_documented() {
    let sources = sources();
    let text = |path: &str| &sources.iter().find(|source| source.path == path).expect(path).text;
    let shape = |path: &str| {
        let mut parts = path.split(['{', '}']).enumerate();
        parts.by_ref().map(|(index, part)| if index % 2 == 0 { part } else { "{}" }).collect::<String>()
    };
    let documented: BTreeSet<String> = text("openapi.yaml")
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':').filter(|path| path.starts_with('/')))
        .map(shape)
        .collect();

    let routes = text("src/http/route.rs");
    let (_, variants) = routes.split_once("enum Route<'a> {").expect("the routes");
    let (variants, _) = variants.split_once("\n}").expect("their end");
    let paths = variants.lines().filter_map(|line| line.trim().strip_prefix("/// `")?.strip_suffix('`'));
    let mut served: BTreeSet<String> = paths.map(shape).collect();
    let count = variants.lines().filter(|line| line.trim().ends_with(',')).count();
    assert_eq!(served.len(), count, "a route without its path in a comment");
    let management = text("src/management/mod.rs").split('"').skip(1).step_by(2);
    served.extend(management.filter(|text| text.starts_with('/') && text.len() > 1).map(str::to_owned));
    assert_eq!(served, documented);
}

/// A file says what it is before anything else, and is short enough to be read.
#[test]
fn files_start_with_what_they_are_and_stay_short() {
    let sources = sources();
    let rust = || sources.iter().filter(|source| source.is_rust());
    // Rules about the program look no further than the unit tests.
    let last = |source: &&Source| {
        let rest = source.text.lines().skip(source.lines_without_tests().count());
        rest.filter(|line| *line == "}").count() <= 1
    };
    let buried = rust().filter(|source| source.is_program() && !last(source));
    assert_none("unit tests do not stand last", buried.map(|source| source.path.clone()));
    let headless = rust().filter(|source| !source.text.starts_with("//! "));
    assert_none("does not start with //!", headless.map(|source| source.path.clone()));

    let long: BTreeSet<&str> =
        rust().filter(|s| s.text.lines().count() > LINES_MAX).map(|s| s.path.as_str()).collect();
    let allowed: BTreeSet<&str> = LONG_FILES.iter().map(|(path, _)| *path).collect();
    assert_eq!(long, allowed, "files over {LINES_MAX} lines, and those that may be");
}

/// Nothing is left for later: no switched-off tests, no notes to ourselves. Clippy forbids gaps in the program.
#[test]
fn nothing_is_left_for_later() {
    // Written apart, so that this file does not find itself.
    let words = [concat!("#[ig", "nore"), concat!("TO", "DO"), concat!("FIX", "ME")];
    assert_none("is left for later", lines_with(&words, |path| path != "Cargo.lock"));
}

/// Every benchmark runs once with the tests, has a `main` of its own that knows how, and stands in the list of them.
#[test]
fn every_benchmark_runs_in_the_suite() {
    let sources = sources();
    let text = |path: &str| &sources.iter().find(|source| source.path == path).expect("a file").text;
    assert!(text("tests/run.sh").contains("cargo test --bench '*'"), "benchmarks are left out");
    let listed = manifest("Cargo.toml");
    let listed: BTreeMap<&str, &toml::Value> = listed["bench"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|bench| (bench["name"].as_str().expect("a name"), bench))
        .collect();
    let mut found = BTreeSet::new();
    for path in sources.iter().filter_map(|source| source.path.strip_prefix("benches/")) {
        found.extend(match path.split('/').collect::<Vec<_>>()[..] {
            [name] => name.strip_suffix(".rs"),
            [name, "main.rs"] => Some(name),
            _ => None,
        });
    }
    assert_eq!(found, listed.keys().copied().collect(), "files in benches/, and [[bench]] in Cargo.toml");
    for (name, bench) in listed {
        assert_eq!(bench["harness"].as_bool(), Some(false), "{name} would run no criterion");
        let command = format!("cargo bench --bench {name}");
        assert!(
            text("docs/internals/measurements.md").contains(&command),
            "docs/internals/measurements.md lacks {command}"
        );
    }
}

/// The project does not know the machine that it was written on.
#[test]
fn no_path_of_a_machine_is_named() {
    let words = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tm", "p/")];
    assert_none("names a place of one machine", lines_with(&words, |_| true));
}

fn lines_with(words: &[&str], files: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| files(&source.path)) {
        for (number, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    found
}

/// Tests wait for what they need, with a deadline; only the polling in their support code sleeps.
#[test]
fn tests_do_not_sleep() {
    let words = [concat!("thread::sl", "eep"), concat!("time::sl", "eep")];
    let is_polling = |path: &str| path.split('/').any(|part| part.starts_with("support"));
    let found = lines_with(&words, |path| {
        let test = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
        test && path.ends_with(".rs") && !is_polling(path)
    });
    assert_none("sleeps instead of waiting", found);
}
