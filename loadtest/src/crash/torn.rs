//! Tears the end of a log, as a power failure does: what a commit was writing is there in part, or as nonsense.
//!
//! Only bytes are appended. Everything up to the end of the newest file may have been acknowledged, and to cut that would be a
//! loss that no store survives. What is appended begins like the next commit (a frame begins with its length and its number),
//! but is never whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use fastrand::Rng;

/// Bytes in front of the first frame of a file.
const HEADER_BYTES: usize = 128;
/// Bytes in front of a frame's records: length (4, and 4 that are 0), number (8), checksums.
const FRAME_HEADER_BYTES: usize = 40;
/// Most of zeros or noise.
const NONSENSE_BYTES_MAX: usize = 10_000;

/// Appends a commit that is not whole to the newest file. There has to be a store. `false`: nothing can be torn, because
/// the kill came after the file was created and before `HEAD` named it, and no commit goes to a file before that.
pub(super) fn tear(data: &Path, random: &mut Rng) -> io::Result<bool> {
    let path = newest(data)?;
    let bytes = fs::read(&path)?;
    if bytes.len() < HEADER_BYTES {
        // The kill came while it was created: it is torn as it is.
        return Ok(true);
    }
    if !is_named(data, &path)? {
        return Ok(false);
    }
    let tail = tail(&bytes, random);
    let mut file = File::options().append(true).open(&path)?;
    file.write_all(&tail)?;
    Ok(true)
}

/// Whether `HEAD` names a file of the log. Its first line is `newest N`, and a file's name ends with its last number.
fn is_named(data: &Path, path: &Path) -> io::Result<bool> {
    let head = fs::read_to_string(data.join("store/HEAD"))?;
    let named: Option<u64> = head.lines().next().and_then(|line| line.strip_prefix("newest ")?.parse().ok());
    let last: Option<u64> = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .and_then(|stem| stem.rsplit('-').next()?.parse().ok());
    Ok(named.is_some() && named == last)
}

/// The newest file of the log.
pub(super) fn newest(data: &Path) -> io::Result<PathBuf> {
    let mut newest = None;
    for entry in fs::read_dir(data.join("store"))? {
        let path = entry?.path();
        // Names begin with the file's number, with leading zeros.
        if path.extension().is_some_and(|extension| extension == "log") {
            newest = newest.max(Some(path));
        }
    }
    newest.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no log in the store"))
}

fn tail(bytes: &[u8], random: &mut Rng) -> Vec<u8> {
    let (mut frame, number) = last_frame(bytes);
    frame[8..16].copy_from_slice(&number.to_le_bytes());
    match random.u8(0..4) {
        // The middle of a record.
        0 => frame.truncate(random.usize(1..frame.len())),
        // The length was written, and not all that belongs there; the checksum is another frame's.
        1 => {
            let from = random.usize(FRAME_HEADER_BYTES..frame.len());
            if frame[from..].iter().all(|byte| *byte == 0) {
                frame.pop();
            }
            let from = from.min(frame.len());
            frame[from..].fill(0);
        }
        2 => frame = vec![0; random.usize(1..NONSENSE_BYTES_MAX)],
        _ => {
            frame = vec![0; random.usize(1..NONSENSE_BYTES_MAX)];
            random.fill(&mut frame);
        }
    }
    frame
}

/// A copy of the last whole frame, or one that looks like it; and the number of the frame that comes next.
fn last_frame(bytes: &[u8]) -> (Vec<u8>, u64) {
    let (mut frame, mut number) = (None, 0u64);
    let mut rest = &bytes[HEADER_BYTES..];
    while let Some(length) = rest.first_chunk().map(|length| u32::from_le_bytes(*length) as usize)
        && let Some((whole, behind)) = rest.split_at_checked(FRAME_HEADER_BYTES + length)
    {
        // An empty one has nothing that could be missing.
        frame = if length > 0 { Some(whole) } else { frame };
        number += 1;
        rest = behind;
    }
    let made = || [&100u32.to_le_bytes()[..], &[7; FRAME_HEADER_BYTES + 96]].concat();
    (frame.map_or_else(made, <[u8]>::to_vec), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_head_names_is_torn() {
        let data = std::env::temp_dir().join(format!("loadtest-torn-{}", std::process::id()));
        fs::create_dir_all(data.join("store")).unwrap();
        let file = |number: u32| data.join(format!("store/{number:010}-{number:010}.log"));
        let mut random = Rng::with_seed(3);
        fs::write(data.join("store/HEAD"), "newest 20\nknown 128 0 00\n").unwrap();
        fs::write(file(20), [1; HEADER_BYTES]).unwrap();
        assert!(tear(&data, &mut random).unwrap());
        assert!(fs::metadata(file(20)).unwrap().len() > HEADER_BYTES as u64);
        fs::write(file(21), [1; HEADER_BYTES]).unwrap();
        assert!(!tear(&data, &mut random).unwrap());
        assert_eq!(fs::metadata(file(21)).unwrap().len(), HEADER_BYTES as u64);
        fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn a_tail_is_never_whole() {
        let mut random = Rng::with_seed(3);
        let mut bytes = vec![1; HEADER_BYTES];
        for number in 0..3u64 {
            bytes.extend(
                [&5u32.to_le_bytes()[..], &[0; 4], &number.to_le_bytes(), &[9; 24], b"hello"].concat(),
            );
        }
        let (frame, number) = last_frame(&bytes);
        assert_eq!((&frame[FRAME_HEADER_BYTES..], number), (&b"hello"[..], 3));
        assert_eq!(last_frame(&bytes[..HEADER_BYTES]).1, 0);
        for _ in 0..200 {
            let tail = tail(&bytes, &mut random);
            assert!(!tail.is_empty());
            let whole = [&5u32.to_le_bytes()[..], &[0; 4], &3u64.to_le_bytes(), &[9; 24], b"hello"].concat();
            assert_ne!(tail, whole);
        }
    }
}
