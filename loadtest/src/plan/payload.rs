//! Bodies of requests: a text, a file, the files of a directory, or JSON of random sizes.
//!
//! Everything is read and made before the run. Sizes that follow a distribution come as a set of bodies at evenly spaced
//! quantiles of it: picked at random, they have that distribution.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Bodies that a directory may hold.
const FILES_MAX: usize = 10_000;
/// Bodies that stand for a distribution.
const SIZES: usize = 64;
/// Longest body that is made.
const BYTES_MAX: f64 = 64.0 * 1024.0 * 1024.0;

/// Where bodies come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// No body.
    None,
    /// This text.
    Text(String),
    /// The bytes of this file.
    File(PathBuf),
    /// The files of a directory, one after the other or at random.
    Directory(PathBuf, Order),
    /// `{"input":"…"}` with a text such that the body has a size of this distribution, in bytes.
    Sizes(Sizes),
}

/// Which body is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// In the order of their names, again and again; every thread on its own.
    #[default]
    Sequential,
    /// Any.
    Random,
}

/// A distribution of sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sizes {
    /// Always the same.
    Fixed(f64),
    /// Evenly between two.
    Uniform(f64, f64),
    /// Exponential with this mean.
    Exponential(f64),
    /// Log-normal with this median and this 99th percentile.
    LogNormal(f64, f64),
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A file or directory cannot be read.
    #[error("cannot read {path}: {1}", path = .0.display())]
    Unreadable(PathBuf, io::Error),
    /// Nothing is in the directory.
    #[error("{} has no files", .0.display())]
    Empty(PathBuf),
    /// Too much is.
    #[error("{} has more than {FILES_MAX} files", .0.display())]
    TooMany(PathBuf),
}

/// What a request carries; `None`: it has no body, not even an empty one.
pub(super) type Body = Option<Vec<u8>>;

impl Payload {
    /// All bodies, and their order.
    pub(super) fn bodies(&self) -> Result<(Vec<Body>, Order), PayloadError> {
        let one = |body| (vec![Some(body)], Order::Sequential);
        Ok(match self {
            Payload::None => (vec![None], Order::Sequential),
            Payload::Text(text) => one(text.clone().into_bytes()),
            Payload::File(path) => one(read(path)?),
            Payload::Directory(path, order) => {
                let bodies =
                    files(path)?.iter().map(|file| read(file).map(Some)).collect::<Result<_, _>>()?;
                (bodies, *order)
            }
            Payload::Sizes(sizes @ Sizes::Fixed(_)) => one(json_of_size(sizes.quantile(0.5))),
            Payload::Sizes(sizes) => {
                let quantiles = (0..SIZES).map(|index| (index as f64 + 0.5) / SIZES as f64);
                let bodies = quantiles.map(|quantile| Some(json_of_size(sizes.quantile(quantile)))).collect();
                (bodies, Order::Random)
            }
        })
    }
}

impl Sizes {
    fn quantile(self, quantile: f64) -> f64 {
        match self {
            Sizes::Fixed(size) => size,
            Sizes::Uniform(low, high) => low + (high - low) * quantile,
            Sizes::Exponential(mean) => -mean * (1.0 - quantile).ln(),
            Sizes::LogNormal(median, p99) => {
                // 2.326 is the 99 % quantile of the normal distribution.
                let sigma = (p99 / median).ln() / 2.326;
                median * (sigma * normal_quantile(quantile)).exp()
            }
        }
    }
}

/// Quantile of the standard normal distribution: Shore's approximation by a logistic one, off by less than 0.05 between
/// the 1st and the 99th percentile, which is far below the spacing of the quantiles that are used.
fn normal_quantile(quantile: f64) -> f64 {
    let upper = |quantile: f64| 5.5556 * (1.0 - ((1.0 - quantile) / quantile).powf(0.1186));
    if quantile >= 0.5 { upper(quantile) } else { -upper(1.0 - quantile) }
}

fn json_of_size(size: f64) -> Vec<u8> {
    let frame = br#"{"input":""}"#.len();
    let letters = (size.min(BYTES_MAX).round() as usize).saturating_sub(frame);
    format!(r#"{{"input":"{}"}}"#, "x".repeat(letters)).into_bytes()
}

fn read(path: &Path) -> Result<Vec<u8>, PayloadError> {
    fs::read(path).map_err(|error| PayloadError::Unreadable(path.to_owned(), error))
}

/// Files of a directory by name, without hidden ones.
fn files(path: &Path) -> Result<Vec<PathBuf>, PayloadError> {
    let unreadable = |error| PayloadError::Unreadable(path.to_owned(), error);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !is_hidden && entry.path().is_file() {
            files.push(entry.path());
        }
        if files.len() > FILES_MAX {
            return Err(PayloadError::TooMany(path.to_owned()));
        }
    }
    if files.is_empty() {
        return Err(PayloadError::Empty(path.to_owned()));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(sizes: Sizes) -> Vec<usize> {
        let (bodies, _) = Payload::Sizes(sizes).bodies().expect("bodies");
        bodies.into_iter().flatten().map(|body| body.len()).collect()
    }

    #[test]
    fn bodies_have_the_sizes_of_the_distribution() {
        assert_eq!(sizes(Sizes::Fixed(100.0)), [100]);
        assert_eq!(sizes(Sizes::Fixed(1.0)), [br#"{"input":""}"#.len()]);
        let mean = |sizes: &[usize]| sizes.iter().sum::<usize>() / sizes.len();
        assert!((540..560).contains(&mean(&sizes(Sizes::Uniform(100.0, 1000.0)))));
        assert!((950..1050).contains(&mean(&sizes(Sizes::Exponential(1000.0)))));
        let logs = sizes(Sizes::LogNormal(1000.0, 10_000.0));
        assert!((950..1050).contains(&logs[SIZES / 2]), "{}", logs[SIZES / 2]);
        assert!((6_000..12_000).contains(&logs[SIZES - 1]), "{}", logs[SIZES - 1]);
    }

    #[test]
    fn a_body_is_json() {
        let (bodies, _) = Payload::Sizes(Sizes::Fixed(64.0)).bodies().expect("bodies");
        let body = bodies[0].as_deref().expect("a body");
        assert!(serde_json::from_slice::<serde_json::Value>(body).is_ok());
    }
}
