//! The limit of open files that the server is started with, and the one that it runs with.

use crate::support::Server;

const COMPLAINT: &str = "fewer open files are allowed than limits.connections";

/// The soft and the hard limit of a running process.
fn limits(server: &Server) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("it runs");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("the limit");
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().expect("the soft limit"), words.next().expect("the hard limit"))
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    for (connections, complaints) in [(512, 0), (513, 1)] {
        let setting = format!("limits.connections={connections}");
        let server = Server::start_limited(&[&setting], "ulimit -Sn 256; ulimit -Hn 512");
        assert_eq!(limits(&server), ("512".to_owned(), "512".to_owned()));
        // It is written before the line that tells the address, so it is here by now.
        let log = server.log();
        let found = log.iter().filter(|line| line.contains(COMPLAINT)).count();
        assert_eq!(found, complaints, "{connections} connections: {log:#?}");
    }
}
