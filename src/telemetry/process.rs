//! What the operating system says of this process, from `/proc/self`.

/// CPU, memory, descriptors and threads of this process. Values that cannot be read are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessView {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Virtual memory, in bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Limit of open file descriptors.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, in seconds since the Unix epoch.
    pub start_time_seconds: f64,
}

impl ProcessView {
    /// Reads the figures of now.
    pub fn read() -> ProcessView {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let stat = text("/proc/self/stat");
        // The second field, the program's name in parentheses, may hold spaces: count from behind it.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let field = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
        let page_bytes = rustix::param::page_size() as u64;
        let boot_seconds = text("/proc/stat")
            .lines()
            .find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok())
            .unwrap_or(0);
        let max_fds = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0);
        ProcessView {
            cpu_seconds: (field(11) + field(12)) as f64 / ticks,
            resident_bytes: field(21) * page_bytes,
            virtual_bytes: field(20),
            // The directory handle of the count itself is one of them.
            open_fds: std::fs::read_dir("/proc/self/fd")
                .map_or(0, |entries| entries.count() as u64)
                .saturating_sub(1),
            max_fds,
            threads: field(17),
            start_time_seconds: boot_seconds as f64 + field(19) as f64 / ticks,
        }
    }
}
