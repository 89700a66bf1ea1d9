//! Open files: every connection is one, and the soft limit that a shell or a service manager hands down (1024, mostly)
//! is for programs that use `select`. The server takes what the hard limit gives it.
//!
//! Programs that the server starts inherit the raised limit: setting it back between fork and exec is `unsafe`. Not
//! here: what happens when there are none left (`http::listener` backs off).

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, and says so in the log when that is too little for
/// `connections_max` connections. The server starts in any case.
pub(crate) fn raise_limit(connections_max: u32) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let open_files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            let error = io::Error::from(error);
            tracing::warn!(%error, from = limit.current, to = limit.maximum, "cannot raise the limit of open files");
            limit.current
        }
    };
    // `None` is no limit.
    if let Some(open_files) = open_files.filter(|open_files| *open_files < u64::from(connections_max)) {
        tracing::warn!(
            open_files,
            connections = connections_max,
            "fewer open files are allowed than limits.connections; raise the hard limit (ulimit -Hn), or lower the setting"
        );
    }
}
