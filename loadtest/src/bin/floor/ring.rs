//! Many sends by one system call.
//!
//! The one place of this crate with `unsafe` code: the kernel is given a pointer to the frame, and the compiler cannot
//! see for how long it uses it. Here it never does so beyond [`Ring::send_all`]: `MSG_DONTWAIT` makes the kernel either
//! send within the submitting system call or refuse (io_uring marks such a request "no wait" and neither arms a poll nor
//! hands it to a thread), nothing asks for asynchronous work or a polling kernel thread, and the call returns only after
//! the submission queue is empty.
#![allow(unsafe_code)]

use std::{fmt, io, os::fd::RawFd};

use io_uring::{IoUring, opcode, squeue::Flags, types::Fd};

/// Frames a system call.
const SLICE: u32 = 256;

/// `MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL` (linux/socket.h). With "wait all" a send that was cut short is reported,
/// which one that was skipped on success else would not be.
const FLAGS: i32 = 0x40 | 0x100 | 0x4000;

/// An io_uring.
pub(crate) struct Ring(IoUring);

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// A socket that did not take the whole frame.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The number given with the socket.
    pub(crate) id: usize,
    /// How many bytes it took, or how it is broken.
    pub(crate) taken: io::Result<usize>,
}

impl Ring {
    /// Errors where the kernel or the container does not allow io_uring.
    pub(crate) fn new() -> io::Result<Self> {
        IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .build(SLICE)
            .map(Self)
    }

    /// Sends the frame to every socket and says which did not take all of it.
    pub(crate) fn send_all(
        &mut self,
        frame: &[u8],
        sockets: impl Iterator<Item = (usize, RawFd)>,
        refused: &mut Vec<Refused>,
    ) -> io::Result<()> {
        let len = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        for (id, fd) in sockets {
            let entry = opcode::Send::new(Fd(fd), frame.as_ptr(), len)
                .flags(FLAGS)
                .build()
                .flags(Flags::SKIP_SUCCESS)
                .user_data(id as u64);
            // SAFETY: `frame` outlives every use by the kernel, as the head of this module says, and the descriptors
            // belong to sockets that the caller keeps open during this call.
            while unsafe { self.0.submission().push(&entry) }.is_err() {
                self.submit(refused)?;
            }
        }
        self.submit(refused)
    }

    /// Hands over all that waits and takes the failures back.
    fn submit(&mut self, refused: &mut Vec<Refused>) -> io::Result<()> {
        while !self.0.submission().is_empty() {
            match self.0.submit() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        for entry in self.0.completion() {
            let taken = match usize::try_from(entry.result()) {
                Ok(taken) => Ok(taken),
                Err(_) => match io::Error::from_raw_os_error(-entry.result()) {
                    error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                    error => Err(error),
                },
            };
            refused.push(Refused {
                id: entry.user_data() as usize,
                taken,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::{fd::AsRawFd, unix::net::UnixStream},
    };

    use super::*;

    #[test]
    fn what_a_socket_does_not_take_is_told_to_the_byte() {
        // A container may forbid io_uring; the program says so itself then.
        let Ok(mut ring) = Ring::new() else { return };
        let (idle, mut idle_end) = UnixStream::pair().unwrap();
        let (mut full, mut full_end) = UnixStream::pair().unwrap();
        let (dead, _) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        let mut stuffed = 0;
        while let Ok(len) = full.write(&[b'-'; 4096]) {
            stuffed += len;
        }
        let sockets = [
            (1, idle.as_raw_fd()),
            (2, full.as_raw_fd()),
            (3, dead.as_raw_fd()),
        ];
        let mut refused = Vec::new();
        ring.send_all(b"frame", sockets.into_iter(), &mut refused)
            .unwrap();
        let ids: Vec<usize> = refused.iter().map(|refused| refused.id).collect();
        assert_eq!(ids, [2, 3]);
        assert!(matches!(refused[0].taken, Ok(0)));
        assert!(refused[1].taken.is_err());
        let mut got = [0; 5];
        idle_end.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"frame");
        drop(full);
        let mut rest = Vec::new();
        full_end.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), stuffed);
    }

    #[test]
    fn more_sockets_than_a_slice_all_get_it() {
        let Ok(mut ring) = Ring::new() else { return };
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut refused = Vec::new();
        let count = SLICE as usize * 2 + 3;
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; count];
            far.read_exact(&mut got).unwrap();
            got
        });
        // One by one, as a UNIX socket has room for fewer packets than a slice has.
        for id in 0..count {
            loop {
                refused.clear();
                ring.send_all(b"x", std::iter::once((id, near.as_raw_fd())), &mut refused)
                    .unwrap();
                if refused.is_empty() {
                    break;
                }
                std::thread::yield_now();
            }
        }
        assert_eq!(reader.join().unwrap(), vec![b'x'; count]);
    }
}
