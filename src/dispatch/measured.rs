//! For `benches`: requests written and answers read without a connection. Nothing else may use it.

use hyper::Uri;
use shard_core::Dispatch;

use super::{request, response};

/// Writes attempts to one address down. Returns how many bytes each takes.
pub fn writer(address: &Uri) -> impl Fn(&Dispatch) -> usize {
    let prefix = request::Prefix::of(address, "measured");
    move |dispatch| {
        let request = request::encode(&prefix, dispatch);
        request.head.len() + request.input.len() + request.tail.len()
    }
}

/// Length of the head of an answer, when it is all there and makes sense.
pub fn head_bytes(answer: &[u8]) -> Option<usize> {
    response::parse(answer).ok().flatten().map(|(_, length)| length)
}
