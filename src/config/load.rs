//! Puts the sources together: defaults < file < environment < flags.
//!
//! A pure function of [`Sources`]. It never stops at the first mistake: a person who starts a server wants to
//! see all of them.

use std::{collections::BTreeMap, collections::HashSet, fmt};

use nanofaas_wire::suggest;

use super::{
    Config, Key,
    check::{WITHOUT_EFFECT, check},
    file, keys, state_dir,
};

/// Prefix of our environment names.
const PREFIX: &str = "NANOFAAS_";
/// Environment names with our prefix that are not settings of the server.
const OTHER_NAMES: [&str; 4] =
    ["NANOFAAS_ENDPOINT", "NANOFAAS_CONTEXT", "NANOFAAS_LOG", "NANOFAAS_NAMESPACE"];

/// What the configuration starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The defaults of the table.
    Serve,
    /// [`Config::dev`].
    Dev,
}

/// Everything the configuration is a function of.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    /// What to start from.
    pub base: Base,
    /// Name and text of the file.
    pub file: Option<(&'a str, &'a str)>,
    /// The environment of the process.
    pub environment: &'a BTreeMap<String, String>,
    /// Flags in their order.
    pub flags: &'a [Flag],
}

/// A setting from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// How the user wrote it: `--port`, `--set`.
    pub name: String,
    /// Dotted key.
    pub key: String,
    /// Text of the value.
    pub value: String,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    /// The table.
    Default,
    /// [`Config::dev`].
    Dev,
    /// A line of the file.
    File {
        /// Name of the file, as given.
        name: String,
        /// Line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// An argument.
    Flag(String),
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingOrigin::Default => formatter.write_str("default"),
            SettingOrigin::Dev => formatter.write_str("dev"),
            SettingOrigin::File { name, line } => write!(formatter, "{name}:{line}"),
            SettingOrigin::Environment(name) | SettingOrigin::Flag(name) => formatter.write_str(name),
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct Problem {
    /// Where the mistake was made.
    pub origin: SettingOrigin,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Problems(pub Vec<Problem>);

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Where each of them came from, in the order of [`keys`].
    pub origins: Vec<SettingOrigin>,
    /// What looks like a mistake but may be none.
    pub warnings: Vec<Problem>,
}

/// Puts the sources together and checks the result.
///
/// # Errors
/// Every unknown key, unreadable value and broken rule at once.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Problems> {
    let mut draft = Draft::new(sources);
    draft.read_file(sources);
    draft.read_environment(sources);
    draft.read_flags(sources);
    draft.refuse_what_has_no_effect();
    draft.check();
    if draft.problems.is_empty() {
        Ok(Loaded { config: draft.config, origins: draft.origins, warnings: draft.warnings })
    } else {
        Err(Problems(draft.problems))
    }
}

/// The configuration while it is put together.
struct Draft {
    config: Config,
    origins: Vec<SettingOrigin>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Keys whose value could not be read: rules about them would only add noise.
    unread: HashSet<String>,
}

impl Draft {
    fn new(sources: &Sources<'_>) -> Draft {
        let data_dir = state_dir(|name| sources.environment.get(name).cloned());
        let default = Config { data_dir, ..Config::default() };
        let config = match sources.base {
            Base::Serve => default.clone(),
            Base::Dev => Config::dev(),
        };
        let origin = |key: &Key| match key.json(&config) == key.json(&default) {
            true => SettingOrigin::Default,
            false => SettingOrigin::Dev,
        };
        let origins = keys().iter().map(origin).collect();
        Draft { config, origins, problems: Vec::new(), warnings: Vec::new(), unread: HashSet::new() }
    }

    fn read_file(&mut self, sources: &Sources<'_>) {
        let Some((name, text)) = sources.file else { return };
        let at = |line| SettingOrigin::File { name: name.to_owned(), line };
        let (entries, defects) = file::read(text);
        for defect in defects {
            self.problems.push(Problem { origin: at(defect.line), message: defect.message });
        }
        for entry in entries {
            let origin = at(entry.line);
            match find(&entry.key) {
                Ok((_, key)) if entry.is_list && !key.is_list() => {
                    let message = format!("{}: is one value, not a list", entry.key);
                    self.unread.insert(entry.key);
                    self.problems.push(Problem { origin, message });
                }
                Ok((index, key)) => self.set(index, key, &entry.text, origin),
                Err(message) => self.problems.push(Problem { origin, message }),
            }
        }
    }

    fn read_environment(&mut self, sources: &Sources<'_>) {
        for (index, key) in keys().iter().enumerate() {
            let value_of = |name: &&String| {
                sources.environment.get(name.as_str()).filter(|value| !value.trim().is_empty())
            };
            let given = key.environment.iter().find_map(|name| Some((name, value_of(&name)?)));
            let Some((name, value)) = given else { continue };
            let origin = SettingOrigin::Environment(name.clone());
            if is_service_link(name, value) {
                let message = format!("{value:?} looks like Kubernetes' link to a service; ignored");
                self.warnings.push(Problem { origin, message });
            } else {
                self.set(index, key, value, origin);
            }
        }
        for name in sources.environment.keys() {
            if let Some(meant) = near_miss(name) {
                let message = format!("is not a setting and was ignored; did you mean {meant}?");
                self.warnings.push(Problem { origin: SettingOrigin::Environment(name.clone()), message });
            }
        }
    }

    fn read_flags(&mut self, sources: &Sources<'_>) {
        for flag in sources.flags {
            let origin = SettingOrigin::Flag(flag.name.clone());
            match find(&flag.key) {
                Ok((index, key)) => self.set(index, key, &flag.value, origin),
                Err(message) => self.problems.push(Problem { origin, message }),
            }
        }
    }

    fn set(&mut self, index: usize, key: &Key, text: &str, origin: SettingOrigin) {
        match key.set(&mut self.config, text) {
            Ok(()) => {
                // A later source that reads well settles the key.
                self.unread.remove(&key.name);
                self.origins[index] = origin;
            }
            Err(error) => {
                self.unread.insert(key.name.clone());
                self.problems.push(Problem { origin, message: format!("{}: {error}", key.name) });
            }
        }
    }

    /// A setting that nothing looks at must not be set to anything but its default. A variable of that name which
    /// others set for purposes of their own (`POD_NAMESPACE`) is no wish of the user's.
    fn refuse_what_has_no_effect(&mut self) {
        let default = Config::default();
        for (key, origin) in keys().iter().zip(&self.origins) {
            let reason = WITHOUT_EFFECT.iter().find(|(group, _)| key.name.starts_with(group));
            let Some((_, reason)) = reason else { continue };
            let is_foreign =
                matches!(origin, SettingOrigin::Environment(name) if Some(name) != key.environment.first());
            if is_foreign || key.json(&self.config) == key.json(&default) {
                continue;
            }
            let message = format!("{}: has no effect: {reason}; leave it unset", key.name);
            self.problems.push(Problem { origin: origin.clone(), message });
            self.unread.insert(key.name.clone());
        }
    }

    fn check(&mut self) {
        for breach in check(&self.config) {
            if breach.keys.iter().any(|key| self.unread.contains(*key)) {
                continue;
            }
            // Blame what the user wrote: a default can't be wrong on its own.
            let given = breach
                .keys
                .iter()
                .map(|key| self.origin(key))
                .find(|origin| *origin != SettingOrigin::Default);
            let (subject, origin) = (breach.keys.first().copied(), given.unwrap_or(SettingOrigin::Default));
            let message = format!("{}: {}", subject.unwrap_or_default(), breach.message);
            self.problems.push(Problem { origin, message });
        }
    }

    fn origin(&self, name: &str) -> SettingOrigin {
        find(name).map_or(SettingOrigin::Default, |(index, _)| self.origins[index].clone())
    }
}

fn find(name: &str) -> Result<(usize, &'static Key), String> {
    let known = || keys().iter().map(|key| key.name.as_str());
    if let Some(found) = keys().iter().enumerate().find(|(_, key)| key.name == name) {
        return Ok(found);
    }
    let members: Vec<&str> =
        known().filter(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))).collect();
    Err(match suggest::nearest(name, known()) {
        _ if !members.is_empty() => format!("{name:?} is a group: {}", members.join(", ")),
        Some(meant) => format!("unknown key {name:?}; did you mean {meant:?}?"),
        None => format!("unknown key {name:?}; `nanofaas config` lists all keys"),
    })
}

/// Kubernetes puts `<SERVICE>_PORT=tcp://…` into every container of a namespace; a service named "server" must
/// not stop ours.
fn is_service_link(name: &str, value: &str) -> bool {
    name.ends_with("_PORT") && value.contains("://")
}

/// The setting that an unknown variable with our prefix is a typing mistake of.
fn near_miss(name: &str) -> Option<&'static str> {
    let known = || keys().iter().filter_map(|key| key.environment.first()).map(String::as_str);
    if !name.starts_with(PREFIX) || OTHER_NAMES.contains(&name) || known().any(|known| known == name) {
        return None;
    }
    let plain = |name: &str| name.replace('_', "");
    let near = |known: &&str| plain(known) == plain(name) || suggest::distance(known, name) <= 2;
    known().find(near)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
