//! A data directory of a test's own, removed with it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicUsize, Ordering},
};

/// See the module.
pub struct DataDir(PathBuf);

impl DataDir {
    /// An empty place: the directory itself is not there yet.
    pub fn new() -> DataDir {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("nanofaas-data-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        DataDir(path)
    }

    /// A copy of another one's store: of one that is kept, or that no server uses.
    pub fn copy_of(folder: &Path) -> DataDir {
        let data = DataDir::new();
        let store = data.0.join("store");
        std::fs::create_dir_all(&store).expect("a directory");
        for file in std::fs::read_dir(folder.join("store")).expect("a store") {
            let file = file.expect("readable");
            std::fs::copy(file.path(), store.join(file.file_name())).expect("copied");
        }
        data
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The files of the log, in order.
    pub fn log_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.join("store")).expect("a store");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        paths.sort();
        paths
    }

    /// Runs `nanofaas store …` on it; the answer is JSON.
    pub fn store(&self, command: &str) -> Output {
        let mut store = Command::new(env!("CARGO_BIN_EXE_nanofaas"));
        store.args(["-o", "json", "store", command, "--data-dir"]).arg(&self.0);
        store.output().expect("the binary runs")
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
