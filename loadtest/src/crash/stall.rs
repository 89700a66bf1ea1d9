//! A disk that hangs, or is slow, and loses what it was not asked to keep when the power goes.
//!
//! A small library in C (`stall.c`) is built in a temporary folder and comes between the server and the C library's `fsync` and
//! `fdatasync` (`LD_PRELOAD`). It obeys a file that both sides share, and writes down there how long each file was when it
//! was last brought to disk. A kill leaves what was written and not yet synced in the system's memory; so that kills are
//! power failures as well, a part of that is cut off from the log after some of them.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use fastrand::Rng;

const SOURCE: &str = include_str!("stall.c");
/// Names the shared file to the library. A server that starts itself again keeps only variables of certain names, those
/// that begin as the loader's do among them: under another name the disk would never hang.
const CONTROL: &str = "LD_LOADTEST_STALL";

/// The shared file: where its fields are. Integers are in the machine's order.
const MODE_AT: u64 = 0;
const FILES_AT: u64 = 12;
const HUNG_AT: u64 = 16;
const SLOWED_AT: u64 = 24;
const SYNCED_AT: u64 = 32;
/// A file: inode, bytes.
const SYNCED_BYTES: usize = 16;
const FILES_MAX: usize = 4096;

const HANG: u32 = 1;
const SLOW: u32 = 2;
const SLOW_MS: [u32; 2] = [20, 200];

/// Share of the hangs that are long enough for the server to notice.
const LONG_HANGS: f64 = 0.3;
const LONG_MS: std::ops::Range<u64> = 6000..9500;
const SHORT_MS: std::ops::Range<u64> = 50..1500;
/// Share of the hangs during which the server is killed.
const KILLED_HUNG: f64 = 0.5;
/// Share of the kills after which what was not synced is cut off.
const CUTS: f64 = 0.5;

/// What the disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It hangs for seconds.
    Hung,
    /// It takes its time for everything.
    Slow,
}

/// The disk.
#[derive(Debug)]
pub(super) struct Stall {
    trouble: Trouble,
    folder: PathBuf,
    store: PathBuf,
    control: File,
    /// When it begins to hang in this life of the server, and when it ends.
    plan: Option<(Duration, Duration)>,
    is_hanging: bool,
    /// How often it hung.
    pub(super) hangs: u64,
    /// Kills while it did.
    pub(super) kills: u64,
    /// Kills after which something was cut off.
    pub(super) cuts: u64,
}

impl Stall {
    /// Builds the library.
    ///
    /// # Errors
    /// When there is no C compiler, or it fails.
    pub(super) fn new(trouble: Trouble, data: &Path) -> io::Result<Stall> {
        let folder = std::env::temp_dir().join(format!("loadtest-stall-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let source = folder.join("stall.c");
        fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
            .arg(library(&folder))
            .arg(&source)
            .arg("-ldl");
        let built = compiler.output().map_err(|error| io::Error::other(format!("cc: {error}")))?;
        if !built.status.success() {
            let text = String::from_utf8_lossy(&built.stderr).into_owned();
            return Err(io::Error::other(format!("cc: {text}")));
        }
        let control = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(folder.join("control"))?;
        control.set_len(SYNCED_AT + (FILES_MAX * SYNCED_BYTES) as u64)?;
        let store = data.join("store");
        let stall = Stall {
            trouble,
            folder,
            store,
            control,
            plan: None,
            is_hanging: false,
            hangs: 0,
            kills: 0,
            cuts: 0,
        };
        stall
            .control
            .write_all_at(&[SLOW_MS[0].to_ne_bytes(), SLOW_MS[1].to_ne_bytes()].concat(), MODE_AT + 4)?;
        stall.set(if trouble == Trouble::Slow { SLOW } else { 0 })?;
        Ok(stall)
    }

    /// What a server's environment needs.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(library(&self.folder))),
            (CONTROL.to_owned(), text(self.folder.join("control"))),
        ]
    }

    /// A server serves from now on. How long it is to be let alone; `serve` is how long it would be without a hang.
    pub(super) fn plan(&mut self, serve: Duration, random: &mut Rng) -> Duration {
        if self.trouble == Trouble::Slow {
            return serve;
        }
        let is_long = random.f64() < LONG_HANGS;
        let length = Duration::from_millis(random.u64(if is_long { LONG_MS } else { SHORT_MS }));
        let from = serve.mul_f64(random.f64());
        // A run is short at times: the first chance is taken.
        let is_killed_hung = self.kills == 0 || random.f64() < KILLED_HUNG;
        self.plan = Some((from, from + length));
        // A long one is noticed near its end.
        let part = if is_long { 0.8 + random.f64() * 0.2 } else { random.f64() };
        if is_killed_hung { from + length.mul_f64(part) } else { from + length + serve }
    }

    /// So long it has served. Does what is due.
    pub(super) fn advance(&mut self, served: Duration) -> io::Result<()> {
        let Some((from, to)) = self.plan else { return Ok(()) };
        let hangs = served >= from && served < to;
        if hangs != self.is_hanging {
            self.hangs += u64::from(hangs);
            self.is_hanging = hangs;
            self.set(if hangs { HANG } else { 0 })?;
        }
        Ok(())
    }

    /// The server was killed.
    pub(super) fn killed(&mut self, keep_unsynced: bool, random: &mut Rng) -> io::Result<()> {
        self.kills += u64::from(self.is_hanging);
        // A run is short at times: the first chance is taken.
        if !keep_unsynced && (self.cuts == 0 || random.f64() < CUTS) {
            self.cuts += u64::from(self.cut(random)?);
        }
        self.work()
    }

    /// It does not hang any more.
    pub(super) fn work(&mut self) -> io::Result<()> {
        self.plan = None;
        self.is_hanging = false;
        self.set(if self.trouble == Trouble::Slow { SLOW } else { 0 })
    }

    /// Calls that hung, and that were slow.
    pub(super) fn noticed(&self) -> io::Result<(u64, u64)> {
        Ok((self.number(HUNG_AT)?, self.number(SLOWED_AT)?))
    }

    fn set(&self, mode: u32) -> io::Result<()> {
        self.control.write_all_at(&mode.to_ne_bytes(), MODE_AT)
    }

    fn number(&self, at: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, at)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Cuts a part off each file that was not synced. Whether there was one.
    fn cut(&self, random: &mut Rng) -> io::Result<bool> {
        let synced = self.synced()?;
        let mut is_cut = false;
        for entry in fs::read_dir(&self.store)? {
            let entry = entry?;
            let (path, data) = (entry.path(), entry.metadata()?);
            let bytes = synced.iter().find(|(inode, _)| *inode == data.ino()).map(|(_, bytes)| *bytes);
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            if let Some(bytes) = bytes.filter(|bytes| is_log && *bytes < data.len()) {
                File::options().write(true).open(&path)?.set_len(random.u64(bytes..data.len()))?;
                is_cut = true;
            }
        }
        Ok(is_cut)
    }

    /// Inodes and what of them is on disk.
    fn synced(&self) -> io::Result<Vec<(u64, u64)>> {
        let mut count = [0; 4];
        self.control.read_exact_at(&mut count, FILES_AT)?;
        let count = (u32::from_ne_bytes(count) as usize).min(FILES_MAX);
        let mut bytes = vec![0; count * SYNCED_BYTES];
        self.control.read_exact_at(&mut bytes, SYNCED_AT)?;
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        Ok(bytes.chunks_exact(SYNCED_BYTES).map(|file| (number(file), number(&file[8..]))).collect())
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        // Of no use any more; what cannot be removed is small.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn library(folder: &Path) -> PathBuf {
    folder.join("stall.so")
}

#[cfg(test)]
mod tests {
    use std::{io::Write, process::Stdio, thread, time::Instant};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("loadtest-stall-test-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("store")).expect("a folder");
        folder
    }

    /// A program that appends to a file, with and without having it on disk.
    fn append(stall: &Stall, path: &Path, synced: bool) -> std::process::Child {
        let conv = if synced { "notrunc,fsync" } else { "notrunc" };
        let mut command = Command::new("dd");
        command.args(["oflag=append", "bs=10", "count=1", &format!("conv={conv}")]);
        command.arg(format!("of={}", path.display())).envs(stall.environment());
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("dd");
        child.stdin.take().expect("its input").write_all(&[7; 10]).expect("ten bytes");
        child
    }

    #[test]
    fn a_disk_hangs_is_slow_and_forgets_what_was_not_synced() {
        let data = folder("all");
        let path = data.join("store").join("1.log");
        let mut random = Rng::with_seed(1);
        let mut stall = Stall::new(Trouble::Hung, &data).expect("a library");
        assert!(append(&stall, &path, true).wait().expect("dd").success());
        assert!(!stall.cut(&mut random).expect("a cut"), "all of it is on disk");
        stall.set(HANG).expect("a hang");
        let mut hung = append(&stall, &path, true);
        let end = Instant::now() + Duration::from_secs(10);
        while stall.noticed().expect("a count").0 == 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(stall.noticed().expect("counts"), (1, 0));
        assert_eq!((hung.try_wait().expect("dd"), fs::metadata(&path).expect("a file").len()), (None, 20));
        assert!(stall.cut(&mut random).expect("a cut"));
        assert!((10..20).contains(&fs::metadata(&path).expect("a file").len()));
        stall.work().expect("it works again");
        assert!(hung.wait().expect("dd").success());
        stall.set(SLOW).expect("a slow disk");
        let begun = Instant::now();
        assert!(append(&stall, &path, true).wait().expect("dd").success());
        assert!(begun.elapsed() >= Duration::from_millis(u64::from(SLOW_MS[0])));
        assert_eq!(stall.noticed().expect("counts"), (1, 1));
        assert!(append(&stall, &path, false).wait().expect("dd").success());
        assert!(stall.cut(&mut random).expect("a cut"));
        fs::remove_dir_all(data).expect("an end");
    }
}
