//! The real store in the place of the simulator's disks.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use nanofaas_store::{
    function::{Function, Functions, Mode, Program},
    simulation::{BrokenIndex, Stepped},
};
use shard_core::{
    Entry, ExecutionId, FunctionSpec, Input, JournalEvent, Name, Payload, Policy, ReadFailure, Record,
    Recovery, Target,
    journal::{End, EndResult},
};
use shard_sim::{
    random::{Random, Stream},
    storage::{Kept, Storage, Told},
};

use crate::{
    files::{Faults, PlayedFiles, SECTOR},
    results::Results,
};

/// The simulator's functions have no documents: a number stands for each, and in the log that is in its environment.
struct Numbered;

impl Functions for Numbered {
    fn to_disk(&self, spec: &FunctionSpec) -> Option<Function> {
        let number = String::from_utf8(spec.document.to_vec()).ok()?;
        Some(Function {
            name: spec.name.to_string(),
            image: None,
            command: Vec::new(),
            env: BTreeMap::from([("NUMBER".to_owned(), number)]),
            resources: None,
            timeout_ms: 1,
            concurrency: 1,
            queue_size: 1,
            max_retries: Some(1),
            retry_backoff_ms: 0,
            rate_limit_per_second: None,
            endpoint_url: None,
            execution_mode: Mode::Local,
            requested_execution_mode: Mode::Local,
            effective_execution_mode: Mode::Local,
            deployment_backend: None,
            degradation_reason: None,
            runtime_mode: Program::Http,
            runtime_command: None,
            working_dir: None,
            scaling_config: None,
            image_pull_secrets: None,
            default_max_retries: 3,
            pod: None,
        })
    }

    fn to_core(&self, mut function: Function) -> Option<FunctionSpec> {
        let document = function.env.remove("NUMBER")?.into();
        let name = Name::new(&function.name)?;
        Some(FunctionSpec { name, policy: Policy::default(), target: Target::Local, scaling: None, document })
    }
}

/// Bytes of a segment: small, so that there are many.
const SEGMENT_BYTES: u64 = 20_000;
/// How often a start is tried on a failing disk.
const TRIES_MAX: usize = 100;

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// Files are not synced.
    FileSync,
    /// The directory is not synced.
    DirectorySync,
    /// Files get their names before they are on disk.
    RenameBeforeSync,
    /// A file that ends too early is taken as it is.
    Cut,
    /// Compaction forgets an acceptance.
    Compaction,
    /// What became of an execution is not taken.
    FactRefused,
    /// Results are read back in another way than they may be.
    Index(BrokenIndex),
}

impl Planted {
    pub(crate) const ALL: [Planted; 9] = [
        Planted::FileSync,
        Planted::DirectorySync,
        Planted::RenameBeforeSync,
        Planted::Cut,
        Planted::Compaction,
        Planted::FactRefused,
        Planted::Index(BrokenIndex::NotMoved),
        Planted::Index(BrokenIndex::NotedEarly),
        Planted::Index(BrokenIndex::Unchecked),
    ];
}

/// See the module.
pub(crate) struct RealStore {
    files: PlayedFiles,
    store: Option<Stepped>,
    shards: u16,
    random: Random,
    planted: Option<Planted>,
    faults: Faults,
    /// Commits in a thousand that hang, and with which the disk becomes full.
    hangs: u32,
    fills: u32,
    /// Commits until there is room again.
    full: u64,
    /// Bytes of a shard's lane.
    lane_bytes: usize,
    /// Functions by the number that stands for them in the log.
    specs: Vec<FunctionSpec>,
    dropped: BTreeSet<ExecutionId>,
    is_writing: bool,
    results: Results,
}

impl std::fmt::Debug for RealStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RealStore").finish_non_exhaustive()
    }
}

fn path() -> PathBuf {
    Path::new("/store").to_owned()
}

impl RealStore {
    pub(crate) fn new(seed: u64, shards: u16, planted: Option<Planted>) -> RealStore {
        let mut random = Random::of(seed, Stream::Disk, "store");
        let files = PlayedFiles::new(Random::of(seed, Stream::Disk, "files"));
        let lost = |which| planted == Some(which);
        let faults = Faults {
            fails: if random.chance(500) { 0 } else { 30 },
            room: None,
            file_syncs_lost: lost(Planted::FileSync),
            directory_syncs_lost: lost(Planted::DirectorySync),
            new_file_syncs_lost: lost(Planted::RenameBeforeSync),
            flips: 0,
        };
        let mut maybe = |per_mille| if random.chance(500) { 0 } else { per_mille };
        let (hangs, fills) = (maybe(20), maybe(20));
        let lane_bytes = if random.chance(500) { 1 << 20 } else { random.between(100, 3000) as usize };
        let mut store = RealStore {
            files,
            store: None,
            shards,
            random,
            planted,
            faults,
            hangs,
            fills,
            full: 0,
            lane_bytes,
            specs: Vec::new(),
            dropped: BTreeSet::new(),
            is_writing: false,
            results: Results::default(),
        };
        store.open().expect("an empty store opens");
        store
    }

    /// Opens what is there.
    fn open(&mut self) -> Result<Vec<Entry>, String> {
        let quiet = Faults { fails: 0, ..self.faults };
        for tries in 0..TRIES_MAX {
            self.files.set_faults(if tries < 3 { self.faults } else { quiet });
            match Stepped::open(
                Arc::new(self.files.clone()),
                path(),
                &Numbered,
                self.shards,
                SEGMENT_BYTES,
                self.lane_bytes,
            ) {
                Ok((mut store, entries)) => {
                    if let Some(Planted::Index(broken)) = self.planted {
                        store.sabotage(Some(broken));
                    }
                    self.store = Some(store);
                    return Ok(entries.into_iter().map(|entry| self.original(entry)).collect());
                }
                Err(error) if error.is_passing() && tries < 3 => {}
                Err(error) => return Err(format!("the store does not open: {error}")),
            }
        }
        Err("the store does not open on a disk that works".to_owned())
    }

    /// With a number for each function.
    fn numbered(&mut self, entry: Entry) -> Entry {
        let mut stored = |spec: Box<FunctionSpec>| {
            let document = self.specs.len().to_string();
            let written = Box::new(FunctionSpec { document: document.into(), ..(*spec).clone() });
            self.specs.push(*spec);
            written
        };
        let record = match entry.record {
            Record::Registered { spec } => Record::Registered { spec: stored(spec) },
            Record::Reinstated { spec } => Record::Reinstated { spec: stored(spec) },
            record => record,
        };
        Entry { record, ..entry }
    }

    fn original(&self, entry: Entry) -> Entry {
        let of = |spec: &FunctionSpec| {
            let text = String::from_utf8_lossy(&spec.document).into_owned();
            let number: Option<usize> = text.parse().ok();
            Box::new(self.specs[number.unwrap_or_else(|| panic!("no number in {text}"))].clone())
        };
        let record = match entry.record {
            Record::Registered { spec } => Record::Registered { spec: of(&spec) },
            Record::Reinstated { spec } => Record::Reinstated { spec: of(&spec) },
            record => record,
        };
        Entry { record, ..entry }
    }

    fn store(&mut self) -> &mut Stepped {
        self.store.as_mut().expect("it is open")
    }

    /// Reads back how an execution ended, at times from a disk that gives back something else.
    fn read_back(&mut self, id: ExecutionId) -> Result<Option<Box<End>>, String> {
        let flips = if self.random.chance(300) { 300 } else { 0 };
        let before = self.files.set_faults(Faults { flips, ..self.faults });
        let read = self.store().end_of(id).map_err(|(offset, error)| format!("at {offset}: {error}"));
        self.files.set_faults(before);
        if let Err(wrong) = self.results.check(id, &read, flips > 0) {
            panic!("{wrong}");
        }
        read
    }

    fn read_all_back(&mut self, ids: Vec<ExecutionId>) {
        for id in ids {
            // What is wrong with it is checked there.
            let _ = self.read_back(id);
        }
    }

    /// Damages a copy of all files in one way: that is noticed, or changes nothing. The end of the newest file may be missing
    /// where nobody can know of it, and so may a commit at that end in which a sector is empty as it is: who finds it broken
    /// elsewhere cannot tell that the disk did not leave out that sector.
    fn look_for_silent_loss(&mut self, before: &[Entry]) -> Result<(), String> {
        let copy = self.files.copy();
        copy.set_faults(Faults::default());
        let all = copy.all();
        let names: Vec<&String> = all.keys().filter(|name| !all[*name].is_empty()).collect();
        let Some(name) = self.random.pick(&names).map(|name| (*name).clone()) else { return Ok(()) };
        let whole = &all[&name];
        let mut bytes = whole.clone();
        let head = String::from_utf8_lossy(&all["HEAD"]).into_owned();
        let number: u64 =
            head.split([' ', '\n']).nth(1).and_then(|text| text.parse().ok()).expect("HEAD says it");
        let newest = name.ends_with(&format!("{number:010}.log"));
        let (what, is_cut) = match self.random.below(3) {
            0 => {
                let at = self.random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.random.below(8);
                copy.damage(&name, Some(bytes));
                (format!("bit of byte {at} of {name} flips"), false)
            }
            1 => {
                let length = self.random.below(bytes.len() as u64) as usize;
                bytes.truncate(length);
                copy.damage(&name, Some(bytes));
                (format!("{name} is cut to {length}"), true)
            }
            _ => {
                copy.damage(&name, None);
                (format!("{name} is removed"), false)
            }
        };
        let records = match Stepped::open(
            Arc::new(copy.clone()),
            path(),
            &Numbered,
            self.shards,
            SEGMENT_BYTES,
            self.lane_bytes,
        ) {
            Err(_) => return Ok(()),
            Ok((_, entries)) => entries.into_iter().map(|entry| self.original(entry)).collect::<Vec<_>>(),
        };
        let is_cut_off = newest && before.starts_with(&records);
        let kept = copy.all().get(&name).map_or(0, Vec::len).min(whole.len());
        let unknown = is_cut_off && (is_cut || has_empty_sector(whole, kept));
        // Of what a compaction replaced, the files before may be there still: they add up to the same.
        if records == before || unknown || sum(&records) == sum(before) {
            return Ok(());
        }
        Err(format!("{what}: nobody notices, and {} of {} records are there", records.len(), before.len()))
    }
}

/// Whether a sector of a file, or the part of one that stands behind a place, has nothing but zeros in it.
fn has_empty_sector(bytes: &[u8], from: usize) -> bool {
    let mut sectors = bytes.chunks(SECTOR).enumerate();
    sectors.any(|(number, sector)| {
        let part = sector.get(from.saturating_sub(number * SECTOR)..).unwrap_or_default();
        !part.is_empty() && part.iter().all(|byte| *byte == 0)
    })
}

/// What records add up to; an execution's place only by its neighbours.
fn sum(records: &[Entry]) -> Vec<String> {
    let mut recovery = Recovery::default();
    records.iter().for_each(|record| recovery.apply(record.clone()));
    let said = recovery.into_stored().map(|stored| format!("{stored:?}"));
    said.map(|text| text.split(", order:").next().unwrap_or_default().to_owned()).collect()
}

fn told(all: Vec<(u16, Input)>) -> Vec<(u16, Told)> {
    all.into_iter().map(|(shard, input)| (shard, as_told(input))).collect()
}

fn as_told(input: Input) -> Told {
    match input {
        Input::Journal(JournalEvent::Safe { through }) => Told::Written(through),
        Input::Journal(JournalEvent::Failed { through }) => Told::Failed(through),
        Input::Journal(JournalEvent::NotTaken { number }) => Told::NotTaken(number),
        other => panic!("a store does not say {other:?}"),
    }
}

impl Storage for RealStore {
    fn append(&mut self, shard: u16, number: u64, entry: Entry) -> Option<Told> {
        let is_fact = matches!(entry.record, Record::Ended { .. } | Record::Requeued { .. });
        if is_fact && self.planted == Some(Planted::FactRefused) && self.random.chance(20) {
            return Some(Told::NotTaken(number));
        }
        self.results.given(shard, number, &entry.record);
        let entry = self.numbered(entry);
        let told = self.store().append(shard, number, entry).map(as_told);
        told.inspect(|told| self.results.told(shard, *told))
    }

    fn begin(&mut self) -> Option<u64> {
        if !self.store().is_busy() {
            return None;
        }
        self.store().gather();
        self.is_writing = true;
        // Nothing of it is safe yet.
        let ids = self.results.some(&mut self.random, 0);
        self.read_all_back(ids);
        self.full = self.full.saturating_sub(1);
        if self.random.chance(self.fills) {
            self.full = self.random.below(20);
        }
        let used: usize = self.files.all().values().map(Vec::len).sum();
        let room = (self.full > 0).then(|| used + self.random.below(3000) as usize);
        self.files.set_faults(Faults { room, ..self.faults });
        if self.random.chance(self.hangs) {
            return Some(self.random.between(1_000_000, 60_000_000));
        }
        Some(self.random.between(200, 20_000))
    }

    fn give_up(&mut self) -> Vec<(u16, Told)> {
        told(self.store().give_up())
    }

    fn commit(&mut self) -> Vec<(u16, Told)> {
        self.is_writing = false;
        let all = self.store().write();
        if self.random.chance(50) {
            self.store().rest();
        }
        if self.random.chance(50) {
            let loses = self.planted == Some(Planted::Compaction);
            let dropped = self.store().compact(loses);
            self.dropped.extend(dropped);
        }
        let all = told(all);
        all.iter().for_each(|(shard, told)| self.results.told(*shard, *told));
        let ids = self.results.some(&mut self.random, 3);
        self.read_all_back(ids);
        all
    }

    fn read(&mut self, id: ExecutionId) -> Result<EndResult, ReadFailure> {
        match self.read_back(id) {
            Ok(end) => end.map(|end| end.result).ok_or(ReadFailure::Missing),
            Err(_) => Err(ReadFailure::Unreadable),
        }
    }

    fn flush(&mut self) {
        if std::mem::take(&mut self.is_writing) {
            self.store().write();
        }
        while self.store().is_busy() {
            self.store().gather();
            self.store().write();
            if self.store().is_failing() {
                break;
            }
        }
        if !self.store().is_busy() {
            self.store().close();
        }
    }

    fn crash(&mut self) -> Result<Kept, String> {
        if std::mem::take(&mut self.is_writing) && self.random.chance(500) {
            // It came some way.
            self.files.set_faults(Faults { fails: 300, ..self.faults });
            self.store().write();
        }
        self.store = None;
        if self.random.chance(600) {
            self.files.lose_power();
        }
        if self.planted == Some(Planted::Cut) {
            let all = self.files.all();
            if let Some((name, bytes)) = all.iter().rfind(|(name, _)| name.ends_with(".log")) {
                let kept = bytes.len().saturating_sub(200).max(128);
                self.files.damage(name, Some(bytes[..kept.min(bytes.len())].to_vec()));
            }
        }
        let before = self.files.copy();
        let entries = self.open()?;
        self.results = Results::of(entries.iter().map(|entry| &entry.record));
        self.read_all_back(self.results.all());
        if self.planted.is_none() {
            let now = std::mem::replace(&mut self.files, before);
            let looked = self.look_for_silent_loss(&entries);
            self.files = now;
            looked?;
        }
        let name = Name::new("dropped").expect("a name");
        let dropped = self.dropped.iter().flat_map(|id| {
            let accepted = Record::Accepted {
                id: *id,
                function: name,
                created_ms: 0,
                payload: Payload::json(""),
                extra: None,
                callback_url: None,
            };
            [accepted, Record::Forgotten { id: *id }]
        });
        Ok(Kept { dropped: dropped.collect(), entries })
    }

    fn repair(&mut self) {
        self.faults.fails = 0;
        (self.hangs, self.fills, self.full) = (0, 0, 0);
        self.files.set_faults(self.faults);
    }

    fn is_busy(&self) -> bool {
        self.is_writing || self.store.as_ref().is_some_and(Stepped::is_busy)
    }
}
