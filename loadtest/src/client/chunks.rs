//! Decodes a chunked body that comes in pieces (RFC 9112 §7.1). Extensions and trailers are skipped.

use super::head::Malformed;

/// Where in the body the next byte stands.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    place: ChunkState,
}

#[derive(Debug)]
enum ChunkState {
    Size { value: u64, digits: u8 },
    Extension { size: u64 },
    Data { left: u64 },
    DataEnd,
    Trailer { is_empty: bool },
    End,
}

impl Default for ChunkState {
    fn default() -> ChunkState {
        ChunkState::Size { value: 0, digits: 0 }
    }
}

impl Chunks {
    /// Decodes `bytes` and hands the parts of the body to `keep`; true when the body is complete.
    pub(crate) fn decode(
        &mut self,
        mut bytes: &[u8],
        mut keep: impl FnMut(&[u8]),
    ) -> Result<bool, Malformed> {
        while let Some((&first, rest)) = bytes.split_first() {
            if let ChunkState::Data { left } = &mut self.place {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                keep(&bytes[..count]);
                bytes = &bytes[count..];
                *left -= count as u64;
                if *left == 0 {
                    self.place = ChunkState::DataEnd;
                }
                continue;
            }
            self.place = self.step(first)?;
            bytes = rest;
        }
        Ok(matches!(self.place, ChunkState::End))
    }

    fn step(&self, byte: u8) -> Result<ChunkState, Malformed> {
        Ok(match self.place {
            ChunkState::Size { value, digits } => match (char::from(byte).to_digit(16), byte) {
                (Some(_), _) if digits == 16 => return Err(Malformed("a chunk is too long")),
                (Some(digit), _) => {
                    ChunkState::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
                }
                (None, _) if digits == 0 => return Err(Malformed("a chunk has no size")),
                (None, b'\n') => after_size(value),
                (None, _) => ChunkState::Extension { size: value },
            },
            ChunkState::Extension { size } if byte == b'\n' => after_size(size),
            ChunkState::Extension { size } => ChunkState::Extension { size },
            // Taken in whole slices above.
            ChunkState::Data { left } => ChunkState::Data { left },
            ChunkState::DataEnd if byte == b'\n' => ChunkState::default(),
            ChunkState::DataEnd if byte == b'\r' => ChunkState::DataEnd,
            ChunkState::DataEnd => return Err(Malformed("a chunk does not end where it should")),
            ChunkState::Trailer { is_empty: true } if byte == b'\n' => ChunkState::End,
            ChunkState::Trailer { .. } if byte == b'\n' => ChunkState::Trailer { is_empty: true },
            ChunkState::Trailer { is_empty } => ChunkState::Trailer { is_empty: is_empty && byte == b'\r' },
            ChunkState::End => return Err(Malformed("bytes follow its end")),
        })
    }
}

fn after_size(size: u64) -> ChunkState {
    if size == 0 { ChunkState::Trailer { is_empty: true } } else { ChunkState::Data { left: size } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let body = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: z\r\n\r\n";
        for size in 1..body.len() {
            let (mut chunks, mut kept, mut is_complete) = (Chunks::default(), Vec::new(), false);
            for piece in body.chunks(size) {
                assert!(!is_complete);
                is_complete = chunks.decode(piece, |part| kept.extend_from_slice(part)).expect("chunks");
            }
            assert!(is_complete, "pieces of {size}");
            assert_eq!(kept, b"hello world", "pieces of {size}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for body in ["x\r\n", "\r\n", "1\r\nab\r\n", "11111111111111111\r\n", "0\r\n\r\nx"] {
            assert!(Chunks::default().decode(body.as_bytes(), |_| {}).is_err(), "{body:?}");
        }
    }
}
