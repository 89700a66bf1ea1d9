//! Reads HTTP bodies of requests to their end, within a limit each and a budget for all of them.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Why there is no body.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// It is longer than the limit; known before anything is read when its length was announced.
    TooLarge,
    /// It did not arrive whole.
    Broken,
    /// All bodies that are being read have taken up the budget.
    NoRoom,
}

/// Memory for bodies that have begun to arrive and are not whole yet. Shared by all threads.
#[derive(Debug)]
pub struct BodyBudget {
    bytes_max: u64,
    bytes: AtomicU64,
}

impl BodyBudget {
    /// A budget of so many bytes.
    pub fn new(bytes_max: u64) -> BodyBudget {
        BodyBudget { bytes_max, bytes: AtomicU64::new(0) }
    }

    fn take(&self, bytes: u64) -> bool {
        let taken = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if taken + bytes > self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }
}

/// What one body has of the budget, given back when it is whole or given up.
struct Share<'a> {
    budget: &'a BodyBudget,
    bytes: u64,
}

impl Share<'_> {
    fn grow_to(&mut self, bytes: usize) -> Result<(), ReadError> {
        let more = (bytes as u64).saturating_sub(self.bytes);
        if more > 0 && !self.budget.take(more) {
            return Err(ReadError::NoRoom);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads a body of at most `limit` bytes. Most bodies are one frame, which is not copied, and counts in no budget.
pub(crate) async fn read_whole(
    mut body: Incoming,
    limit: usize,
    budget: &BodyBudget,
) -> Result<Bytes, ReadError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(ReadError::TooLarge);
    }
    let mut share = Share { budget, bytes: 0 };
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
        let length = first.len() + rest.len() + data.len();
        if length > limit {
            return Err(ReadError::TooLarge);
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
            if body.is_end_stream() {
                break;
            }
            share.grow_to(first.len())?;
        } else {
            share.grow_to(length)?;
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
            // Room that was taken in advance is taken all the same.
            share.grow_to(rest.capacity())?;
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_given_back() {
        let budget = BodyBudget::new(100);
        let mut one = Share { budget: &budget, bytes: 0 };
        let mut two = Share { budget: &budget, bytes: 0 };
        assert!(one.grow_to(60).is_ok() && one.grow_to(10).is_ok() && one.grow_to(60).is_ok());
        assert!(two.grow_to(40).is_ok());
        assert!(two.grow_to(41).is_err() && one.grow_to(u32::MAX as usize).is_err());
        drop(one);
        assert!(two.grow_to(100).is_ok());
        drop(two);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
    }
}
