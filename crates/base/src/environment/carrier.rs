//! What takes bytes over an exec: a socket in the place of standard input, with a message that carries descriptors.
//!
//! Descriptors of which only a number is known cannot be closed again without `unsafe`, and would be inherited by every
//! function. Those in a message arrive as owned ones, which no other program inherits; standard input is among
//! them, and gets back to its place. The bytes are in pipes, as many as they fill: unlike a file in memory, a pipe
//! does not count as a file against the limit of how large files may get.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
    pipe::{PipeFlags, pipe_with},
};

/// Descriptors that the kernel takes in one message.
const DESCRIPTORS_MAX: usize = 253;
/// Longest name of a process, in bytes.
const LABEL_MAX: usize = 16;

/// What arrived.
pub(super) struct Cargo {
    /// Some bytes that everything is labelled with.
    pub(super) label: Vec<u8>,
    /// Number of bytes in the pipes.
    pub(super) length: u64,
    /// To be read to their ends, one after the other.
    pub(super) pipes: Vec<OwnedFd>,
}

/// Loads the bytes, for whoever has this standard input from now on. Returns what it was before.
///
/// # Errors
/// The system refuses, or it is too much. Standard input is what it was, then.
pub(super) fn load(label: &[u8], bytes: &[u8]) -> io::Result<OwnedFd> {
    // Away from the places of the standard streams.
    let before = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let pipes = fill(bytes)?;
    let (near, far) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    send(near.as_fd(), label, bytes.len() as u64, &before, &pipes)?;
    rustix::stdio::dup2_stdin(&far)?;
    Ok(before)
}

/// Puts standard input back.
pub(super) fn unload(before: &OwnedFd) {
    // There is nobody left to tell, and no server reads from it.
    let _ = rustix::stdio::dup2_stdin(before);
}

/// Takes what standard input carries, and puts that back to what it was. Does not wait.
///
/// # Errors
/// It carries nothing, or only a part arrived.
pub(super) fn receive() -> io::Result<Cargo> {
    let (mut length, mut label) = ([0; 8], [0; LABEL_MAX]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut length), IoSliceMut::new(&mut label)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(io::stdin(), &mut parts, &mut control, flags)?;
    let mut descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let (Some(before), pipes) = (descriptors.next(), descriptors.collect()) else {
        return Err(io::Error::other("it came without descriptors"));
    };
    rustix::stdio::dup2_stdin(&before)?;
    if received.flags.contains(ReturnFlags::CTRUNC) || received.bytes < length.len() {
        return Err(io::Error::other("not all of it could be received"));
    }
    let label = label[..received.bytes - length.len()].to_vec();
    Ok(Cargo { label, length: u64::from_ne_bytes(length), pipes })
}

/// The reading ends of pipes that hold the bytes.
fn fill(mut bytes: &[u8]) -> io::Result<Vec<OwnedFd>> {
    let mut pipes = Vec::new();
    while !bytes.is_empty() {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let before = bytes.len();
        while !bytes.is_empty() {
            match rustix::io::write(&writing, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if bytes.len() == before || pipes.len() == DESCRIPTORS_MAX - 1 {
            return Err(io::Error::other("it is too large for the pipes that there may be"));
        }
        pipes.push(reading);
    }
    Ok(pipes)
}

fn send(
    socket: BorrowedFd<'_>,
    label: &[u8],
    length: u64,
    before: &OwnedFd,
    pipes: &[OwnedFd],
) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> =
        std::iter::once(before).chain(pipes).map(|descriptor| descriptor.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("it takes too many descriptors"));
    }
    let length = length.to_ne_bytes();
    let label = &label[..label.len().min(LABEL_MAX)];
    let parts = [IoSlice::new(&length), IoSlice::new(label)];
    rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn pipes_hold_what_an_environment_can_hold() {
        for length in [0, 1, 65_536, 65_537, 3_000_000] {
            let bytes: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
            let mut read = Vec::new();
            for pipe in fill(&bytes).expect("pipes") {
                std::fs::File::from(pipe).read_to_end(&mut read).expect("the bytes");
            }
            assert!(read == bytes, "{length} bytes");
        }
    }

    #[test]
    fn what_no_pipes_can_hold_is_refused() {
        let bytes = vec![0; 32 << 20];
        assert!(fill(&bytes).is_err());
    }
}
