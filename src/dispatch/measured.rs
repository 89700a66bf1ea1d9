//! A door for `benches`: requests written and answers read without a connection. Nothing else may come through it.

use shard_core::Dispatch;

use super::{request, response};

/// Writes an attempt down, behind its request line and `Host`. Returns how many bytes it takes.
pub fn written_bytes(prefix: &[u8], dispatch: &Dispatch) -> usize {
    let request = request::encode(prefix, dispatch);
    request.head.len() + request.input.len() + request.tail.len()
}

/// Length of the head of an answer, when it is all there and makes sense.
pub fn head_bytes(answer: &[u8]) -> Option<usize> {
    response::parse(answer).ok().flatten().map(|(_, length)| length)
}
