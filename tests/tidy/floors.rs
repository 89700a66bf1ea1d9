//! The floors of the server: a room imports from those below it only, so that each can be read, tested and moved with what
//! is under it.

use std::collections::BTreeSet;

use crate::{Source, assert_none, dependencies, manifest, sources};

/// Rooms of `src` from the ground up. Those of one floor know nothing of each other.
const FLOORS: [&[&str]; 9] = [
    &["descriptors", "ids"],
    &["config", "telemetry"],
    &["delivery", "deployments", "dispatch", "runtime_config"],
    &["host"],
    &["resources"],
    &["durable", "http"],
    &["external_metrics", "management"],
    &["server"],
    &["fuzzing"],
];

#[test]
fn a_room_imports_from_below() {
    let sources = sources();
    let rooms: Vec<&Source> = sources.iter().filter(|source| room_of(source).is_some()).collect();
    let is_inside = |source: &&&Source| source.is_program();
    let upward = rooms.iter().filter(is_inside).flat_map(|source| {
        let room = room_of(source).unwrap_or_default();
        let imported = imports(&code(source));
        imported
            .into_iter()
            .filter(|other| *other != room && floor_of(other) >= floor_of(room))
            .map(|other| format!("{}: {room} imports {other}", source.path))
            .collect::<Vec<_>>()
    });
    assert_none("rooms import from lower floors only", upward);
    let names: BTreeSet<&str> = rooms.iter().filter_map(|source| room_of(source)).collect();
    let listed: BTreeSet<&str> = FLOORS.iter().flat_map(|floor| floor.iter().copied()).collect();
    assert_eq!(names, listed, "each room has its floor");
}

/// Name of the room that a source of the server stands in.
fn room_of(source: &Source) -> Option<&str> {
    // The program, which imports the server as anybody else would.
    let path =
        source.path.strip_prefix("src/").filter(|path| !path.starts_with("bin/"))?.strip_suffix(".rs")?;
    let room = path.split(['/', '.']).next()?;
    (room != "lib").then_some(room)
}

fn floor_of(room: &str) -> usize {
    FLOORS.iter().position(|floor| floor.contains(&room)).unwrap_or(FLOORS.len())
}

/// What a source is without comments and unit tests.
fn code(source: &Source) -> String {
    source.code().map(|(_, line)| line).collect::<Vec<_>>().join(" ")
}

/// Rooms that stand behind `crate::`, alone or in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (start, path) in code.match_indices("crate::") {
        let rest = &code[start + path.len()..];
        match rest.strip_prefix('{') {
            None => rooms.extend(name(rest)),
            Some(group) => {
                let mut depth = 0;
                let ends = |letter: char| {
                    depth += i32::from(letter == '{') - i32::from(letter == '}');
                    depth < 0 || depth == 0 && letter == ','
                };
                let end = group.find("};").unwrap_or(group.len());
                rooms.extend(group[..end].split(ends).filter_map(|part| name(part.trim_start())));
            }
        }
    }
    rooms
}

/// The name that a text begins with, when it is one of a module.
fn name(text: &str) -> Option<String> {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    let name = &text[..end];
    name.starts_with(|letter: char| letter.is_ascii_lowercase()).then(|| name.to_owned())
}

#[test]
fn imports_are_found_however_they_are_written() {
    let code = "use crate::{api::{error::ApiError, headers::{A, B}}, config::Config}; crate::http::route(); use crate::Top;";
    let expected = ["api", "config", "http"].map(str::to_owned);
    assert_eq!(imports(code), BTreeSet::from(expected));
}

/// Invariant 2: dependencies point one way, from the program over the server and the runtime to the core, and to the crates
/// beside them. The command line knows the server over HTTP only, and so does the load test, which has none of them.
#[test]
fn crates_depend_one_way() {
    let ours = BTreeSet::from([
        "loadtest",
        "nanofaas",
        "nanofaas-backends",
        "nanofaas-base",
        "nanofaas-cli",
        "nanofaas-kubernetes",
        "nanofaas-server",
        "nanofaas-store",
        "nanofaas-watchdog",
        "nanofaas-web",
        "nanofaas-wire",
        "shard-core",
        "shard-runtime",
        "shard-sim",
    ]);
    for (path, expected) in [
        ("shards/core/Cargo.toml", &[][..]),
        ("crates/backends/Cargo.toml", &["nanofaas-watchdog", "nanofaas-web", "nanofaas-wire"]),
        ("crates/base/Cargo.toml", &[]),
        ("crates/cli/Cargo.toml", &["nanofaas-base", "nanofaas-web"]),
        ("crates/kubernetes/Cargo.toml", &["nanofaas-backends", "nanofaas-wire"]),
        ("crates/store/Cargo.toml", &["shard-core"]),
        ("crates/web/Cargo.toml", &[]),
        ("crates/watchdog/Cargo.toml", &["nanofaas-web"]),
        ("crates/wire/Cargo.toml", &["shard-core"]),
        ("loadtest/Cargo.toml", &[]),
        ("shards/runtime/Cargo.toml", &["shard-core"]),
        ("shards/sim/Cargo.toml", &["shard-core", "shard-runtime"]),
        (
            "Cargo.toml",
            &["nanofaas-base", "nanofaas-cli", "nanofaas-server", "nanofaas-store", "nanofaas-watchdog"],
        ),
        (
            "src/Cargo.toml",
            &[
                "nanofaas-backends",
                "nanofaas-base",
                "nanofaas-kubernetes",
                "nanofaas-store",
                "nanofaas-watchdog",
                "nanofaas-web",
                "nanofaas-wire",
                "shard-core",
                "shard-runtime",
            ],
        ),
    ] {
        let manifest = manifest(path);
        let found: BTreeSet<&str> = dependencies(&manifest).intersection(&ours).copied().collect();
        assert_eq!(found, expected.iter().copied().collect(), "{path}");
    }
}

/// Invariant 2, for the disk: the store knows neither HTTP nor a runtime.
#[test]
fn the_store_knows_no_wire() {
    let manifest = manifest("crates/store/Cargo.toml");
    let found = dependencies(&manifest);
    let wires = [
        "form_urlencoded",
        "http",
        "http-body-util",
        "httparse",
        "hyper",
        "hyper-util",
        "tokio",
        "tokio-rustls",
    ];
    let named = wires.into_iter().filter(|wire| found.contains(wire)).map(str::to_owned);
    assert_none("the store depends on a wire", named);
}

/// What stands beside `shards/core/src/shard` and knows the shard all the same, with the reason.
const ABOVE_THE_SHARD: [(&str, &str); 3] = [
    ("lib", "hands it to other crates"),
    ("invariant", "audits all of its state"),
    ("sabotage", "breaks it, for the simulator to notice"),
];

#[test]
fn the_ground_floor_of_the_core_does_not_know_the_shard() {
    let sources = sources();
    let knows_shard = |code: &str| {
        imports(code).contains("shard") || code.contains("mod shard;") || code.contains("crate::Shard")
    };
    let beside = sources.iter().filter(|source| source.is_program()).filter_map(|source| {
        let module = source.path.strip_prefix("shards/core/src/")?;
        (!module.starts_with("shard/")).then_some((module.trim_end_matches(".rs"), code(source)))
    });
    let found: BTreeSet<&str> =
        beside.clone().filter(|(_, code)| knows_shard(code)).map(|(module, _)| module).collect();
    let allowed = BTreeSet::from(ABOVE_THE_SHARD.map(|(module, _)| module));
    assert_eq!(found, allowed, "modules beside shard/ that import from it");
    assert!(beside.count() > 20, "the modules of the core were looked through");
}

/// States are types: what a shard and its functions are is not spread over fields that allow what cannot be.
#[test]
fn the_shard_and_its_functions_have_few_fields_and_booleans() {
    let sources = sources();
    let fields = |path: &str, name: &str| {
        let source = sources.iter().find(|source| source.path == path).unwrap_or_else(|| panic!("{path}"));
        let lines = source.text.lines().skip_while(|line| !line.contains(&format!("struct {name} {{")));
        let body = lines.skip(1).take_while(|line| *line != "}");
        let fields = body.filter(|line| line.contains(": ") && !line.trim_start().starts_with("//"));
        fields.map(str::to_owned).collect::<Vec<_>>()
    };
    let shard = fields("shards/core/src/shard/mod.rs", "Shard");
    assert!((10..=22).contains(&shard.len()), "fields of the shard: {}", shard.len());
    let phase = fields("shards/core/src/shard/state.rs", "Phase");
    let function = fields("shards/core/src/function.rs", "Function");
    assert!((10..=28).contains(&function.len()), "fields of a function: {}", function.len());
    let all = shard.iter().chain(&phase).chain(&function);
    let booleans: Vec<&String> = all.filter(|field| field.ends_with(": bool,")).collect();
    assert!((1..=5).contains(&booleans.len()), "booleans: {booleans:#?}");
}
