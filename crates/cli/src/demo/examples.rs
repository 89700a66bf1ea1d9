//! The examples of a demo: where they are, and how they are built.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use nanofaas_base::environment;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Command, time::timeout};

use crate::{failure::Failure, output::note, payload::file_name};

/// Place of the examples inside the repository.
const PLACE: &str = "examples/functions";
/// Time for one build.
const BUILD_TIMEOUT: Duration = Duration::from_secs(600);
/// Lines of a failed build that are shown.
const BUILD_LINES_MAX: usize = 20;

/// One folder with a `function.yaml`.
#[derive(Debug)]
pub(super) struct Example {
    folder: PathBuf,
}

/// Finds the examples: in the given directory, else in the current one, else where this program was built.
pub(super) fn find(given: Option<&Path>) -> Result<Vec<Example>, Failure> {
    let places = match given {
        Some(directory) => vec![directory.to_owned()],
        None => {
            let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
            std::iter::once(PathBuf::from(PLACE)).chain(built_in.map(|root| root.join(PLACE))).collect()
        }
    };
    for place in &places {
        let examples = inside(place);
        if !examples.is_empty() {
            return Ok(examples);
        }
    }
    let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    Err(Failure::Failed(format!(
        "no example (a folder with a function.yaml) in {}; say where they are with --examples DIR",
        looked.join(", ")
    )))
}

fn inside(place: &Path) -> Vec<Example> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|folder| folder.join("function.yaml").is_file()).collect();
    folders.sort();
    folders.into_iter().map(|folder| Example { folder }).collect()
}

impl Example {
    /// Name of the folder.
    pub(super) fn name(&self) -> String {
        file_name(&self.folder)
    }

    /// The function file.
    pub(super) fn function_file(&self) -> PathBuf {
        self.folder.join("function.yaml")
    }

    /// The directory of the payloads.
    pub(super) fn payloads(&self) -> PathBuf {
        self.folder.join("payloads")
    }

    /// Runs the example's `build.sh`, when it has one.
    pub(super) async fn build(&self) -> Result<(), String> {
        let Ok(script) = self.folder.join("build.sh").canonicalize() else { return Ok(()) };
        note(&format!("{}: building", self.name()));
        let started = Instant::now();
        let mut command = Command::new("bash");
        command.arg(script).current_dir(&self.folder).stdin(Stdio::null()).process_group(0);
        command.envs(environment::vars()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("cannot run build.sh: {error}"))?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let output = timeout(BUILD_TIMEOUT, child.wait_with_output()).await;
        let output = output.map_err(|_| format!("build.sh took more than {} s", BUILD_TIMEOUT.as_secs()))?;
        let output = output.map_err(|error| format!("lost build.sh: {error}"))?;
        group.release();
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(BUILD_LINES_MAX)..];
            tail.iter().for_each(|line| note(&format!("  {line}")));
            return Err(format!("build.sh failed ({})", output.status));
        }
        note(&format!("{}: built in {:.1} s", self.name(), started.elapsed().as_secs_f64()));
        Ok(())
    }
}

/// The process group of a build. Killed when the build is given up, so that a compiler does not go on.
struct Group(Option<Pid>);

impl Group {
    /// The build has ended by itself; its id may soon belong to another process.
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
