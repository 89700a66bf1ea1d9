//! A run in a file: its seed, its length, and the requests that are left of it.
//!
//! One `name value` per line; `#` begins a comment. Requests that are left out are written as ranges, for few are left
//! of a run that was made small.

use std::{collections::BTreeSet, fmt::Write};

use crate::Options;

/// Reads a run.
///
/// # Errors
/// The first line that is not understood.
pub fn read(text: &str) -> Result<Options, String> {
    let mut options = Options::new(0, 0);
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let read = match line.split_once(' ') {
            None if line.is_empty() => Some(()),
            Some(("seed", value)) => value.parse().ok().map(|seed| options.seed = seed),
            Some(("events", value)) => value.parse().ok().map(|events| options.events = events),
            Some(("requests", value)) => value.parse().ok().map(|requests| options.requests_max = requests),
            Some(("without", value)) => range(value).map(|(from, to)| options.skip.extend(from..=to)),
            _ => None,
        };
        read.ok_or_else(|| format!("line {} is not understood: {line}", index + 1))?;
    }
    if options.events == 0 {
        return Err("it does not say how many events".to_owned());
    }
    Ok(options)
}

/// Writes one.
pub fn write(options: &Options) -> String {
    let mut text = format!("seed {}\nevents {}\n", options.seed, options.events);
    if options.requests_max < u64::MAX {
        // A `String` takes everything.
        let _ = writeln!(text, "requests {}", options.requests_max);
    }
    for (from, to) in ranges(&options.skip) {
        let _ = writeln!(text, "without {from}-{to}");
    }
    text
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn ranges(numbers: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, to)) if *to + 1 == number => *to = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let skip: BTreeSet<u64> = (3..9).chain([12, 14]).collect();
        let options = Options { skip, requests_max: 20, ..Options::new(7, 500) };
        let text = write(&options);
        assert_eq!(text, "seed 7\nevents 500\nrequests 20\nwithout 3-8\nwithout 12-12\nwithout 14-14\n");
        let read = read(&text).expect("what was written");
        assert_eq!((read.seed, read.events, read.requests_max, read.skip), (7, 500, 20, options.skip));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(
            read("seed 1\nevents many").err().as_deref(),
            Some("line 2 is not understood: events many")
        );
        assert!(read("# nothing").is_err());
    }
}
