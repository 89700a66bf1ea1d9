//! `loadtest crash`: kills a server under load and checks that nothing it accepted is lost.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{failure::Failure, measure::catch_signals, output, progress::Progress};
use crate::{
    crash::{
        self, Fault, Options,
        disk::{self, Way},
        stall::Trouble,
    },
    interrupt::EXIT_CODE,
    plan,
    report::crash::Crash,
    server::Launch,
};

/// Kill a server under load and check that nothing it accepted is lost.
#[derive(Args)]
pub(super) struct CrashCommand {
    /// The nanofaas program to start
    #[arg(long, value_name = "PATH")]
    binary: PathBuf,
    /// New directory for the server's data
    #[arg(long, value_name = "DIR", required_unless_present = "ephemeral")]
    data: Option<PathBuf>,
    /// Let the server keep everything in memory: it loses calls, and the exit code is 1
    #[arg(long, conflicts_with = "data")]
    ephemeral: bool,
    /// What else goes wrong with the store
    #[arg(long, value_enum, default_value_t = FaultName::Kill, value_name = "FAULT")]
    fault: FaultName,
    /// What stands for the disk of --fault full [default: tmpfs; limit, where nothing can be mounted]
    #[arg(long, value_enum, value_name = "DISK")]
    disk: Option<DiskName>,
    /// Let kills take the process only, not what --fault hung and slow had not synced
    #[arg(long)]
    keep_unsynced: bool,
    /// How often the server is killed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    cycles: u64,
    /// What the moments of the kills follow from [default: a random one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Calls per second
    #[arg(short, long, default_value_t = 400.0)]
    rate: f64,
    /// Functions
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
    functions: u64,
    /// Threads of the server
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Longest time that the server serves before it is killed
    #[arg(long, default_value = "1s", value_parser = plan::duration)]
    serve_max: Duration,
    /// How long a start may take, recovery included
    #[arg(long, default_value = "60s", value_parser = plan::duration)]
    start_patience: Duration,
    /// How long it may take after the last restart until everything has ended
    #[arg(long, default_value = "60s", value_parser = plan::duration)]
    settle: Duration,
    /// Setting of the server, as often as needed
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Directory for summary.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also write the result as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Faults on the command line.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum FaultName {
    /// Nothing besides the kills
    Kill,
    /// Before each start the end of the log is torn: a commit is appended that is not whole
    Torn,
    /// The disk becomes full, also over kills, and has room again later
    Full,
    /// The disk hangs for seconds, and works again or the server is killed; half of the kills take what was not synced (needs cc)
    Hung,
    /// Every sync takes 20 to 200 ms; half of the kills take what was not synced (needs cc)
    Slow,
}

/// Disks on the command line.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum DiskName {
    /// A file system of 256 MiB in memory, mounted at --data for this program only; gone when it ends
    Tmpfs,
    /// A limit on the length of the server's files
    Limit,
}

impl CrashCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if !self.rate.is_finite() || self.rate <= 0.0 {
            return Err(Failure::Usage("--rate must be a number over 0".to_owned()));
        }
        // Before any thread runs: it may begin this program anew.
        let fault = self.fault()?;
        let interrupt = catch_signals()?;
        let options = self.options(fault);
        let progress = Progress::new();
        let crash = crash::run(&options, &interrupt, |kills| {
            progress.say(&format!("{kills} of {} kills", options.cycles));
        })
        .map_err(|error| Failure::Failed(format!("{error} (seed {})", options.seed)))?;
        progress.clear();
        self.report(&crash)?;
        Ok(match crash {
            Crash { is_good: false, .. } => ExitCode::FAILURE,
            Crash { is_interrupted: true, .. } => ExitCode::from(EXIT_CODE),
            _ => ExitCode::SUCCESS,
        })
    }

    fn fault(&self) -> Result<Fault, Failure> {
        let data = match (self.fault, &self.data) {
            (FaultName::Kill, _) => return Ok(Fault::Kill),
            (_, None) => {
                return Err(Failure::Usage("--fault needs --data: it is about the store".to_owned()));
            }
            (FaultName::Torn, _) => return Ok(Fault::Torn),
            (FaultName::Hung, _) => return Ok(Fault::Stall(Trouble::Hung)),
            (FaultName::Slow, _) => return Ok(Fault::Stall(Trouble::Slow)),
            (FaultName::Full, Some(data)) => data,
        };
        if self.disk == Some(DiskName::Limit) {
            return Ok(Fault::Full(Way::Limit));
        }
        crash::check_new(data).map_err(|error| Failure::Failed(error.to_string()))?;
        match disk::enter(data) {
            Ok(()) => Ok(Fault::Full(Way::Tmpfs)),
            Err(error) if self.disk.is_none() => {
                writeln!(
                    io::stderr(),
                    "no file system can be mounted ({error}): the length of files is limited instead"
                )?;
                Ok(Fault::Full(Way::Limit))
            }
            Err(error) => Err(Failure::Failed(format!(
                "no file system can be mounted: {error}; it needs the programs unshare and mount, and root or user \
                 namespaces (in a container: --cap-add SYS_ADMIN), or use --disk limit"
            ))),
        }
    }

    fn options(&self, fault: Fault) -> Options {
        // Nothing may be forgotten on purpose during the run.
        let kept = [
            "executions.ttl=24h",
            "executions.payload-ttl=24h",
            "executions.max-count=1000000000",
            "executions.max-bytes=1099511627776",
            "idempotency.ttl=24h",
            "async-queue.enabled=true",
            "rate.max-per-second=1000000",
            "delivery.secret=of-this-run-only",
            "delivery.allow-private=true",
        ];
        let launch = Launch {
            binary: self.binary.clone(),
            workers: self.workers,
            data_dir: self.data.clone(),
            settings: kept.iter().map(|setting| (*setting).to_owned()).chain(self.settings.clone()).collect(),
            ..Launch::default()
        };
        Options {
            launch,
            fault,
            keep_unsynced: self.keep_unsynced,
            cycles: self.cycles,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..1 << 32)),
            rate: self.rate,
            functions: self.functions,
            serve_max: self.serve_max,
            start_patience: self.start_patience,
            settle: self.settle,
        }
    }

    fn report(&self, crash: &Crash) -> Result<(), Failure> {
        if let Some(out) = &self.out {
            output::write(out, "summary.json", &output::json(crash)?)?;
        }
        if let Some(path) = &self.markdown {
            fs::write(path, crash.markdown())
                .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))?;
        }
        let mut stdout = io::stdout().lock();
        if self.json {
            return Ok(writeln!(stdout, "{}", output::json(crash)?)?);
        }
        for line in &crash.setup {
            writeln!(stdout, "{line}")?;
        }
        write!(stdout, "\n{}\n", crash.table())?;
        for line in crash.remarks() {
            writeln!(stdout, "{line}")?;
        }
        for example in &crash.findings.examples {
            writeln!(stdout, "BROKEN {example}")?;
        }
        Ok(())
    }
}
