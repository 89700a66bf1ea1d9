//! Secrets that a function names in its registration (`secrets: ["db-password"]`), and where their values come from.
//!
//! A backend asks its [`SecretSource`] when it starts a replica, and hands the values over as files; they are part of
//! neither the registration nor the version of a function. Not here: keeping secrets, and telling when one has changed.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use crate::FunctionName;

/// Longest value, in bytes.
pub const SECRET_BYTES_MAX: usize = 64 << 10;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// A name that a secret can have: `^[a-z][a-z0-9._-]{0,62}$`. It is also the name of a file, and leads out of no folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// The name, if it is one.
    pub fn new(name: &str) -> Option<SecretName> {
        let is_inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let is_name = name.len() <= NAME_BYTES_MAX
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(is_inner);
        is_name.then(|| SecretName(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The value of a secret, which no message and no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// The value, for whoever hands it to a replica.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretValue(********)")
    }
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nobody has set it.
    #[error("there is no secret '{0}'")]
    Unknown(SecretName),
    /// It is there, and cannot be had.
    #[error("secret '{name}' cannot be read: {source}")]
    Unreadable {
        /// The secret.
        name: SecretName,
        /// The reason.
        source: io::Error,
    },
    /// It is longer than a secret may be.
    #[error("secret '{0}' is longer than {SECRET_BYTES_MAX} bytes")]
    TooLong(SecretName),
}

/// Where the values of secrets come from. May read files: a backend asks on a thread of its own.
pub trait SecretSource: Send + Sync {
    /// The value that a secret has now. Who asks is named for sources that do not give everything to everybody.
    ///
    /// # Errors
    /// It is not there, or cannot be had.
    fn resolve(&self, function: &FunctionName, name: &SecretName) -> Result<SecretValue, SecretError>;
}

/// A folder with a file per secret, as supervisors and Kubernetes mount them. Every function may have each of them.
#[derive(Debug, Clone)]
pub struct SecretFolder(PathBuf);

impl SecretFolder {
    /// The secrets of a folder. It need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> SecretFolder {
        SecretFolder(folder.into())
    }
}

impl SecretSource for SecretFolder {
    fn resolve(&self, _: &FunctionName, name: &SecretName) -> Result<SecretValue, SecretError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SecretError::Unknown(name.clone()),
            _ => SecretError::Unreadable { name: name.clone(), source },
        };
        let file = File::open(self.0.join(name.as_str())).map_err(failed)?;
        let mut value = Vec::new();
        // One byte more tells one that is too long from the longest.
        file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut value).map_err(failed)?;
        if value.len() > SECRET_BYTES_MAX {
            return Err(SecretError::TooLong(name.clone()));
        }
        Ok(SecretValue(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_out_of_no_folder() {
        let longest = format!("a{}", "0".repeat(62));
        for name in ["a", "db-password", "tls.key", "a_1", "a..b", &longest] {
            assert_eq!(SecretName::new(name).as_ref().map(SecretName::as_str), Some(name));
        }
        let too_long = format!("{longest}0");
        for name in ["", ".", "..", "../a", "a/b", "A", "1a", "-a", "a b", "ä", "a\0", &too_long] {
            assert_eq!(SecretName::new(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_folder_gives_what_is_in_its_files() {
        let folder = std::env::temp_dir().join(format!("nanofaas-secrets-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("folder")).unwrap();
        std::fs::write(folder.join("bytes"), b"\xff\0\n").unwrap();
        std::fs::write(folder.join("longest"), vec![b'x'; SECRET_BYTES_MAX]).unwrap();
        std::fs::write(folder.join("too-long"), vec![b'x'; SECRET_BYTES_MAX + 1]).unwrap();
        let source = SecretFolder::new(&folder);
        let resolve = |name| source.resolve(&"f".into(), &SecretName::new(name).unwrap());
        let value = resolve("bytes").unwrap();
        assert_eq!(value.expose(), b"\xff\0\n");
        assert_eq!(format!("{value:?}"), "SecretValue(********)");
        assert_eq!(resolve("longest").unwrap().expose().len(), SECRET_BYTES_MAX);
        assert!(matches!(resolve("too-long"), Err(SecretError::TooLong(_))));
        assert!(matches!(resolve("folder"), Err(SecretError::Unreadable { .. })));
        assert_eq!(resolve("other").unwrap_err().to_string(), "there is no secret 'other'");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
