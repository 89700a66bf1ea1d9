//! Configuration: defaults < file < environment < flags.
//!
//! [`table`](self) holds the one list of settings: [`Config`] and its groups, and [`keys`] (names, environment
//! names, documentation, parsers, printers) come from the same lines. Values are typed when they arrive here;
//! nobody else parses configuration text.
//!
//! Deliberately not here: reading files, the environment or arguments of the process. The command line does
//! that; everything here is a function of what it is given.

mod browser;
mod check;
mod file;
mod key;
mod load;
pub(crate) mod quantity;
mod table;
mod value;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

pub use browser::{AllowedHost, AllowedOrigin};
pub use key::{Key, keys};
pub use load::{Base, Flag, Loaded, Problem, Problems, SettingOrigin, Sources, load};
pub use quantity::parse_bytes;
pub use table::*;
pub use value::{BackendKind, FunctionSource, Placement, PullPolicy, Secret, ValueError};

/// Where `nanofaas dev` keeps its data: next to what the developer works on.
const DEV_DATA_DIR: &str = ".nanofaas";

impl Config {
    /// What `nanofaas dev` starts from: every module on that there is, the process backend, no rate limit, loopback
    /// listeners and a data directory in the current folder.
    pub fn dev() -> Config {
        let mut config = Config { data_dir: PathBuf::from(DEV_DATA_DIR), ..Config::default() };
        config.async_queue.enabled = true;
        config.sync_queue.enabled = true;
        config.admin.runtime_config_enabled = true;
        config.autoscaler.enabled = true;
        config.deployment.backends = vec![BackendKind::Process];
        config.deployment.default_backend = Some(BackendKind::Process);
        config.delivery.secret = Secret::random();
        // Whoever tries out a load test means the function, not a limit of the server.
        config.rate.max_per_second = 0;
        config
    }

    /// Address of the API listener.
    pub fn api_address(&self) -> SocketAddr {
        SocketAddr::new(self.server.host, self.server.port)
    }

    /// Address of the management listener.
    pub fn management_address(&self) -> SocketAddr {
        SocketAddr::new(self.management.host, self.management.port)
    }
}

impl Deployment {
    /// The backends that are on: the listed ones, and the default one also when it is not listed.
    pub fn backends_on(&self) -> Vec<BackendKind> {
        let mut on = self.backends.clone();
        on.extend(self.default_backend.filter(|backend| !self.backends.contains(backend)));
        on
    }
}

/// The platform's directory for state that outlives a restart, by the rules of systemd and XDG.
fn state_dir(environment: impl Fn(&str) -> Option<String>) -> PathBuf {
    let absolute = |path: String| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    if let Some(directory) = environment("STATE_DIRECTORY").and_then(|list| absolute(first(&list))) {
        return directory;
    }
    let user = environment("XDG_STATE_HOME")
        .and_then(absolute)
        .or_else(|| environment("HOME").and_then(absolute).map(|home| home.join(".local/state")));
    user.unwrap_or_else(|| Path::new("/var/lib").to_owned()).join("nanofaas")
}

/// systemd separates several directories with colons.
fn first(list: &str) -> String {
    list.split(':').next().unwrap_or_default().to_owned()
}

/// Whether an address can be reached from this machine only.
pub fn is_loopback(host: IpAddr) -> bool {
    host.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_follows_the_platform() {
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[], "/var/lib/nanofaas"),
            (&[("HOME", "/home/a")], "/home/a/.local/state/nanofaas"),
            (&[("HOME", "/home/a"), ("XDG_STATE_HOME", "/s")], "/s/nanofaas"),
            (&[("HOME", "/home/a"), ("XDG_STATE_HOME", "relative")], "/home/a/.local/state/nanofaas"),
            (&[("HOME", "/home/a"), ("STATE_DIRECTORY", "/var/lib/x:/var/lib/y")], "/var/lib/x"),
            (&[("HOME", "")], "/var/lib/nanofaas"),
        ];
        for (environment, expected) in cases {
            let look_up = |name: &str| {
                environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(state_dir(look_up), PathBuf::from(expected), "{environment:?}");
        }
    }

    #[test]
    fn dev_means_everything_on_and_loopback() {
        let dev = Config::dev();
        assert!(dev.async_queue.enabled && dev.sync_queue.enabled && dev.autoscaler.enabled);
        assert!(dev.admin.runtime_config_enabled);
        assert!(is_loopback(dev.server.host) && is_loopback(dev.management.host));
        assert_eq!(dev.deployment.backends_on(), [BackendKind::Process]);
        assert!(dev.delivery.secret.is_some());
        assert_eq!(dev.rate.max_per_second, 0);
        assert_ne!(dev.delivery.secret, Config::dev().delivery.secret);
    }

    #[test]
    fn a_named_default_backend_is_on() {
        let mut deployment = Config::default().deployment;
        assert_eq!(deployment.backends_on(), []);
        deployment.default_backend = Some(BackendKind::Process);
        assert_eq!(deployment.backends_on(), [BackendKind::Process]);
        deployment.backends = vec![BackendKind::Container, BackendKind::Process];
        assert_eq!(deployment.backends_on(), [BackendKind::Container, BackendKind::Process]);
    }
}
