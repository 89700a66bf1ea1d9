//! Compares what could keep the records of accepted executions: fjall, redb, SQLite, and a plain log.
//!
//! One writer thread commits what has arrived (group commit) and has it on disk (fsync) before it goes on. An
//! execution is two records of about 300 bytes, one when it is accepted and one when it has ended; it is forgotten
//! 50 000 executions later. Keys count up, which is what trees like best.
//!
//! `cargo run --release -- DIRECTORY`, on one core with `taskset -c 0`. Four measurements per engine:
//! - `steady`: 30 000 executions per second arrive; how long until one is safe, and what that costs;
//! - `full`: as fast as it goes, 512 executions per commit;
//! - `recover`: a million accepted executions are read back;
//! - `flip`: a byte in the middle of the newest file is flipped; does opening tell?

mod engines;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use engines::{Engine, Op, open};

const FORGOTTEN_AFTER: u64 = 50_000;
const RATE_PER_SECOND: f64 = 30_000.0;
const STEADY_TIME: Duration = Duration::from_secs(5);
const FULL_EXECUTIONS: u64 = 300_000;
const QUEUED: u64 = 1_000_000;

fn main() {
    if let Ok(order) = std::env::var("FILL") {
        let words: Vec<&str> = order.split(' ').collect();
        let number = |at: usize| words[at].parse().expect("a number");
        return fill(words[0], Path::new(words[1]), number(2), number(3));
    }
    let base = PathBuf::from(std::env::args().nth(1).expect("a directory to work in"));
    let only = std::env::args().nth(2);
    println!(
        "engine  shards | steady: p50 ms  p99 ms  CPU us/execution  bytes written/execution | full: per s  CPU us | recover s | flip"
    );
    for name in ["log", "fjall", "redb", "sqlite"] {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        for shards in [1, 2] {
            let steady = fresh(&base, |dir| steady(open(name, dir, shards), shards));
            let full = fresh(&base, |dir| full(open(name, dir, shards), shards));
            let recovered = fresh(&base, |dir| recover(name, dir, shards));
            let told = if shards == 1 { fresh(&base, |dir| flip(name, dir)) } else { String::new() };
            println!("{name:7} {shards:6} | {steady} | {full} | {recovered:9.2} | {told}");
        }
    }
}

fn fresh<T>(base: &Path, run: impl FnOnce(&Path) -> T) -> T {
    let dir = base.join("engine");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory");
    let result = run(&dir);
    let _ = fs::remove_dir_all(&dir);
    result
}

/// What one execution writes when it is accepted, when another ends and when an old one is forgotten.
fn ops(number: u64, shards: u64, ops: &mut Vec<Op>) {
    ops.push(Op::put(number % shards, number, b'a'));
    if let Some(ended) = number.checked_sub(1000) {
        ops.push(Op::put(ended % shards, ended, b'e'));
    }
    if let Some(old) = number.checked_sub(FORGOTTEN_AFTER) {
        ops.push(Op::delete(old % shards, old, b'a'));
        ops.push(Op::delete(old % shards, old, b'e'));
    }
}

fn steady(mut engine: Box<dyn Engine>, shards: u64) -> String {
    let (cpu, written) = (cpu_us(), written_bytes());
    let start = Instant::now();
    let mut latencies_us: Vec<u64> = Vec::new();
    let (mut done, mut batch) = (0, Vec::new());
    while start.elapsed() < STEADY_TIME {
        let due = (start.elapsed().as_secs_f64() * RATE_PER_SECOND) as u64;
        if due == done {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        }
        batch.clear();
        (done..due).for_each(|number| ops(number, shards, &mut batch));
        engine.commit(&batch);
        let now_us = start.elapsed().as_micros() as u64;
        latencies_us.extend(
            (done..due).map(|number| now_us.saturating_sub((number as f64 / RATE_PER_SECOND * 1e6) as u64)),
        );
        done = due;
    }
    latencies_us.sort_unstable();
    let quantile = |part: f64| latencies_us[(latencies_us.len() as f64 * part) as usize] as f64 / 1000.0;
    format!(
        "{:14.2} {:7.2} {:17.2} {:24}",
        quantile(0.5),
        quantile(0.99),
        (cpu_us() - cpu) / done as f64,
        (written_bytes() - written) / done,
    )
}

fn full(mut engine: Box<dyn Engine>, shards: u64) -> String {
    let (cpu, start) = (cpu_us(), Instant::now());
    let mut batch = Vec::new();
    for first in (0..FULL_EXECUTIONS).step_by(512) {
        batch.clear();
        (first..first + 512).for_each(|number| ops(number, shards, &mut batch));
        engine.commit(&batch);
    }
    let per_second = FULL_EXECUTIONS as f64 / start.elapsed().as_secs_f64();
    format!("{per_second:11.0} {:7.2}", (cpu_us() - cpu) / FULL_EXECUTIONS as f64)
}

fn fill(name: &str, dir: &Path, shards: u64, executions: u64) {
    let mut engine = open(name, dir, shards);
    let mut batch = Vec::new();
    for first in (0..executions).step_by(1000) {
        batch.clear();
        batch.extend((first..first + 1000).map(|number| Op::put(number % shards, number, b'a')));
        engine.commit(&batch);
    }
    // As after a kill: nothing is tidied up.
    std::mem::forget(engine);
}

/// In a process of its own, so that it ends like a killed one: locks go, nothing is closed.
fn fill_and_die(name: &str, dir: &Path, shards: u64, executions: u64) {
    let mut child = std::process::Command::new(std::env::current_exe().expect("this program"));
    let dir = dir.to_str().expect("a path in UTF-8");
    child.env("FILL", format!("{name} {dir} {shards} {executions}"));
    child.status().expect("it runs");
}

fn recover(name: &str, dir: &Path, shards: u64) -> f64 {
    fill_and_die(name, dir, shards, QUEUED);
    let start = Instant::now();
    let count = engines::recover(name, dir, shards).expect("it opens");
    assert_eq!(count, QUEUED, "{name}");
    start.elapsed().as_secs_f64()
}

fn flip(name: &str, dir: &Path) -> String {
    const EXECUTIONS: u64 = 20_000;
    fill_and_die(name, dir, 1, EXECUTIONS);
    let newest = files(dir).into_iter().max_by_key(|path| {
        let data = fs::metadata(path).expect("a file");
        (data.len() > 1 << 20, data.modified().expect("a time"))
    });
    let path = newest.expect("a file");
    let mut bytes = fs::read(&path).expect("readable");
    // Journals are allocated ahead: the middle of what is in use.
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    bytes[used / 2] ^= 0x10;
    fs::write(&path, bytes).expect("writable");
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match std::panic::catch_unwind(|| engines::recover(name, dir, 1)) {
        Ok(Ok(count)) => format!("{file}: opens with {count} of {EXECUTIONS}, no error"),
        Ok(Err(error)) => format!("{file}: {error}"),
        Err(_) => format!("{file}: panics"),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

/// CPU time of all threads so far, in microseconds (100 ticks per second).
fn cpu_us() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) * 10_000.0
}

fn written_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}
