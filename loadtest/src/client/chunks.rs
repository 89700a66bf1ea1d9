//! Decodes a chunked body that comes in pieces (RFC 9112 §7.1). Extensions and trailers are skipped.

use super::head::Malformed;

/// Where in the body the next byte stands.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    place: Place,
}

#[derive(Debug)]
enum Place {
    Size { value: u64, digits: u8 },
    Extension { size: u64 },
    Data { left: u64 },
    DataEnd,
    Trailer { is_empty: bool },
    End,
}

impl Default for Place {
    fn default() -> Place {
        Place::Size { value: 0, digits: 0 }
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
            if let Place::Data { left } = &mut self.place {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                keep(&bytes[..count]);
                bytes = &bytes[count..];
                *left -= count as u64;
                if *left == 0 {
                    self.place = Place::DataEnd;
                }
                continue;
            }
            self.place = self.step(first)?;
            bytes = rest;
        }
        Ok(matches!(self.place, Place::End))
    }

    fn step(&self, byte: u8) -> Result<Place, Malformed> {
        Ok(match self.place {
            Place::Size { value, digits } => match (char::from(byte).to_digit(16), byte) {
                (Some(_), _) if digits == 16 => return Err(Malformed("a chunk is too long")),
                (Some(digit), _) => Place::Size { value: value << 4 | u64::from(digit), digits: digits + 1 },
                (None, _) if digits == 0 => return Err(Malformed("a chunk has no size")),
                (None, b'\n') => after_size(value),
                (None, _) => Place::Extension { size: value },
            },
            Place::Extension { size } if byte == b'\n' => after_size(size),
            Place::Extension { size } => Place::Extension { size },
            // Taken in whole slices above.
            Place::Data { left } => Place::Data { left },
            Place::DataEnd if byte == b'\n' => Place::default(),
            Place::DataEnd if byte == b'\r' => Place::DataEnd,
            Place::DataEnd => return Err(Malformed("a chunk does not end where it should")),
            Place::Trailer { is_empty: true } if byte == b'\n' => Place::End,
            Place::Trailer { .. } if byte == b'\n' => Place::Trailer { is_empty: true },
            Place::Trailer { is_empty } => Place::Trailer { is_empty: is_empty && byte == b'\r' },
            Place::End => return Err(Malformed("bytes follow its end")),
        })
    }
}

fn after_size(size: u64) -> Place {
    if size == 0 { Place::Trailer { is_empty: true } } else { Place::Data { left: size } }
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
