//! Mode `FILE`: one process per call, from `INPUT_FILE` to `OUTPUT_FILE` in a directory that only this call has.

use std::{
    cell::RefCell,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::io::AsyncReadExt;

use super::{
    invocation::{BODY_MAX, Failure, Invocation, Output},
    launcher::Launcher,
    output::{Tail, log},
    program::Program,
};

/// Names of directories that are tried before giving up.
const TRIES_MAX: usize = 16;

/// A directory that is removed with everything in it when dropped.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    /// Makes one that nobody else may enter, below the system's temporary directory.
    fn make() -> io::Result<Directory> {
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TRIES_MAX {
            let path = std::env::temp_dir().join(format!("nanofaas-{:016x}", random()?));
            // Fails on an existing one, so nobody can have prepared it.
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Directory(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "cannot remove the directory of a call");
        }
    }
}

/// Runs one call. `None` when it was interrupted; process group and directory are gone in any case.
pub async fn run(
    launcher: &Launcher,
    invocation: &Invocation,
    interrupted: impl Future<Output = ()>,
) -> Option<Result<Output, Failure>> {
    // Dropped last: the program must be gone before its directory goes.
    let (directory, mut program) = match prepare(launcher, invocation).await {
        Ok(prepared) => prepared,
        Err(failure) => return Some(Err(failure)),
    };
    let result = tokio::select! {
        result = converse(&mut program, invocation, &directory) => Some(result),
        () = interrupted => None,
    };
    program.end().await;
    result
}

async fn prepare(launcher: &Launcher, invocation: &Invocation) -> Result<(Directory, Program), Failure> {
    let directory = Directory::make().map_err(Failure::watchdog("make a directory for the call"))?;
    let (input, output) = (input_of(&directory), output_of(&directory));
    tokio::fs::write(&input, &invocation.body).await.map_err(Failure::watchdog("write the input file"))?;
    let files = [("INPUT_FILE", input.as_os_str()), ("OUTPUT_FILE", output.as_os_str())];
    let program = launcher.start_call(invocation, files, Stdio::null())?;
    Ok((directory, program))
}

async fn converse(
    program: &mut Program,
    invocation: &Invocation,
    directory: &Directory,
) -> Result<Output, Failure> {
    let (stdout, stderr) = (program.stdout.take(), program.stderr.take());
    let (chatter, tail) = (RefCell::default(), RefCell::new(Tail::default()));
    let streams = async {
        let id = &invocation.execution_id;
        tokio::join!(log(stdout, "stdout", id, &chatter), log(stderr, "stderr", id, &tail));
        Ok(())
    };
    let status = program.ended_after(streams).await?;
    if !status.success() {
        return Err(Failure::Exited { status, stderr: tail.borrow().text() });
    }
    let bytes = read(&output_of(directory)).await?;
    Output::from_bytes(bytes, invocation.raw).map_err(Failure::InvalidFile)
}

async fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = Failure::watchdog("read the output file");
    match tokio::fs::metadata(path).await {
        // Anything else, such as a FIFO, might block the reader for ever.
        Ok(metadata) if metadata.is_file() => {}
        _ => return Err(Failure::NoOutputFile(path.display().to_string())),
    }
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(&failed)?;
    file.take(BODY_MAX as u64 + 1).read_to_end(&mut bytes).await.map_err(&failed)?;
    if bytes.len() > BODY_MAX { Err(Failure::TooLarge) } else { Ok(bytes) }
}

fn input_of(directory: &Directory) -> PathBuf {
    directory.0.join("input.json")
}

fn output_of(directory: &Directory) -> PathBuf {
    directory.0.join("output.json")
}

fn random() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(error.to_string()))
}
