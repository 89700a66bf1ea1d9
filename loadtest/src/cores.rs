//! Which cores a thread may use: it, and the threads and programs that it starts.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The thread is back on its former cores when this is dropped.
#[derive(Debug)]
pub struct Pinned {
    former: CpuSet,
}

/// Lets the calling thread use these cores only.
///
/// # Errors
/// When there are no such cores for this program.
pub fn pin(cores: &[usize]) -> io::Result<Pinned> {
    let former = sched_getaffinity(None)?;
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set)?;
    Ok(Pinned { former })
}

/// The cores that the calling thread may use.
///
/// # Errors
/// When the system does not tell.
pub fn available() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Their numbers, for people.
pub fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<String>>().join(", ")
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // They were its cores before.
        let _ = sched_setaffinity(None, &self.former);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_comes_back_to_its_cores() {
        let before = available().expect("cores");
        let pinned = pin(&before[..1]).expect("the first of them");
        assert_eq!(available().expect("cores"), before[..1]);
        drop(pinned);
        assert_eq!(available().expect("cores"), before);
    }
}
