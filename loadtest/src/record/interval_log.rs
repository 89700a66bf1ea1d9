//! Writes HdrHistogram interval logs (format 1.3, V2 histograms): one file of a run, one tag per function and phase.
//!
//! A thread of its own encodes and writes; other tools read the file (HistogramLogAnalyzer, hdr-plot and the like).
//! Times are nanoseconds, the column of maxima is in milliseconds.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::mpsc::{self, SyncSender},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use hdrhistogram::{
    Histogram,
    serialization::{
        V2Serializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    },
};

/// Intervals that may wait to be written.
const WAITING_MAX: usize = 256;

/// One line of the log.
struct IntervalLine {
    tag: String,
    second: u32,
    histogram: Histogram<u64>,
}

/// A log that is being written.
#[derive(Debug)]
pub struct IntervalLog {
    entries: SyncSender<IntervalLine>,
    thread: JoinHandle<io::Result<()>>,
}

impl IntervalLog {
    /// Creates the file. `start` is the beginning of the run.
    pub fn create(path: &Path, start: SystemTime) -> io::Result<IntervalLog> {
        let mut file = BufWriter::new(File::create(path)?);
        let (entries, receiver) = mpsc::sync_channel::<IntervalLine>(WAITING_MAX);
        let thread = thread::Builder::new().name("interval-log".to_owned()).spawn(move || {
            let mut serializer = V2Serializer::new();
            let mut log = IntervalLogWriterBuilder::new()
                .add_comment("latency in nanoseconds, from the intended start of each call")
                .with_start_time(start)
                .with_base_time(start)
                .with_max_value_divisor(1e6)
                .begin_log_with(&mut file, &mut serializer)?;
            for entry in receiver {
                let tag = Tag::new(&entry.tag);
                let start = Duration::from_secs(entry.second.into());
                log.write_histogram(&entry.histogram, start, Duration::from_secs(1), tag)
                    .map_err(|error| io::Error::other(format!("{error:?}")))?;
            }
            file.flush()
        })?;
        Ok(IntervalLog { entries, thread })
    }

    /// Adds one interval.
    pub(super) fn add(&self, name: &str, second: u32, histogram: &Histogram<u64>) {
        // Characters that end a tag.
        let tag = name.replace([',', ' ', '\n', '\r'], "_");
        // A log that broke off says so when it is closed.
        let _ = self.entries.send(IntervalLine { tag, second, histogram: histogram.clone() });
    }

    /// Waits until everything is written.
    pub fn close(self) -> io::Result<()> {
        drop(self.entries);
        self.thread.join().map_err(|_| io::Error::other("the thread that writes the log panicked"))?
    }
}
