//! What a server uses: CPU time and memory, from the kernel or from the server's own metrics.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::client::address::{Address, AddressError};

/// How long the server may take to give its metrics.
const METRICS_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a page of memory, in `/proc/PID/statm`.
fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// A server that is watched.
#[derive(Debug, Clone)]
pub enum Monitor {
    /// A process of this machine.
    Pid(u32),
    /// A page in the Prometheus text format.
    Metrics(Address),
}

/// What it used so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// CPU time since its start, in seconds.
    pub cpu_s: f64,
    /// Memory in bytes.
    pub resident_bytes: u64,
}

impl Monitor {
    /// Watches the metrics of a nanofaas server, at its management address.
    pub fn management(url: &str) -> Result<Monitor, AddressError> {
        let mut address = Address::parse(url)?;
        if address.path == "/" {
            address.path = "/actuator/prometheus".to_owned();
        }
        Ok(Monitor::Metrics(address))
    }

    /// Where the numbers come from.
    pub fn source(&self) -> String {
        match self {
            Monitor::Pid(pid) => format!("process {pid}"),
            Monitor::Metrics(address) => format!("{}{}", address.host, address.path),
        }
    }

    /// CPU time of each thread of a process, in seconds, by thread id.
    pub fn threads_cpu_s(pid: u32) -> Vec<(u32, f64)> {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let cpu_s = |entry: fs::DirEntry| {
            let thread = entry.file_name().to_str()?.parse().ok()?;
            let ticks = stat_ticks(&fs::read_to_string(entry.path().join("stat")).ok()?)?;
            Some((thread, ticks as f64 / per_second))
        };
        entries.flatten().filter_map(cpu_s).collect()
    }

    /// The latest numbers; `None` when there are none.
    pub fn sample(&mut self) -> Option<Sample> {
        match self {
            Monitor::Pid(pid) => process(*pid),
            Monitor::Metrics(address) => metrics(&address.fetch(METRICS_TIMEOUT).ok()?),
        }
    }
}

/// CPU time of this process in seconds.
pub fn own_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU time in seconds, of all cores since the machine's start, that its host gave to others while there was work to do
/// here. `None` where the kernel does not tell.
pub fn stolen_s() -> Option<f64> {
    stolen_ticks(&fs::read_to_string("/proc/stat").ok()?)
        .map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The eighth figure of all cores.
fn stolen_ticks(stat: &str) -> Option<u64> {
    stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().nth(7)?.parse().ok()
}

fn process(pid: u32) -> Option<Sample> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let ticks = stat_ticks(&stat)?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Sample { cpu_s: ticks as f64 / per_second as f64, resident_bytes: pages * page_bytes() })
}

/// User and system time. The program's name comes before them, in brackets, and may contain anything.
fn stat_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

fn metrics(page: &[u8]) -> Option<Sample> {
    let page = str::from_utf8(page).ok()?;
    let value = |name: &str| {
        let line = page
            .lines()
            .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let cpu_s = value("process_cpu_seconds_total")?;
    Some(Sample { cpu_s, resident_bytes: value("process_resident_memory_bytes").unwrap_or_default() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "12 (a) b) c) S 1 12 12 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(stat_ticks(stat), Some(200));
        let own = process(std::process::id()).expect("this process");
        assert!(own.resident_bytes > 100_000, "{own:?}");
        assert_eq!(Monitor::Pid(u32::MAX).sample(), None);
    }

    #[test]
    fn stolen_time_is_that_of_all_cores() {
        assert_eq!(stolen_ticks("cpu  1 2 3 4 5 6 7 80 0 0\ncpu0 1 2 3 4 5 6 7 40 0 0\n"), Some(80));
        assert_eq!(stolen_ticks("cpu0 1 2 3 4 5 6 7 8\n"), None);
    }

    #[test]
    fn metrics_are_found_by_their_whole_name() {
        let page = b"# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total_x 9\n\
            process_cpu_seconds_total 12.5\nprocess_resident_memory_bytes 4096\n";
        assert_eq!(metrics(page), Some(Sample { cpu_s: 12.5, resident_bytes: 4096 }));
        assert_eq!(metrics(b"other 1\n"), None);
    }
}
