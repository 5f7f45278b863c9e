//! Many sends by one system call: io_uring, where the kernel allows it.
//!
//! The only `unsafe` of the hub. It pays: see docs/measurements.md for what a delivery costs with and without it.
#![allow(unsafe_code)]

use std::{io, os::fd::RawFd};

use io_uring::{IoUring, opcode, types::Fd};

/// Sends of one call at the most: about a slice of time.
pub(super) const SENDS: usize = 256;

/// A ring for sends that never wait.
pub(super) struct Ring(IoUring);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl Ring {
    /// A ring, if the kernel gives one and knows how to send.
    ///
    /// # Errors
    /// What the kernel or the container's rules say.
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            // Completions come with the call that submits; nothing has to interrupt a thread for them.
            .setup_coop_taskrun()
            .build(SENDS as u32)?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Send::CODE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self(ring))
    }

    /// Sends each piece to its socket as far as the kernel takes it now, at most [`SENDS`] of them. `sent` gets for each the
    /// bytes taken, or a negated error number.
    ///
    /// # Errors
    /// The ring is of no use any more; pieces for which `sent` has `i32::MIN` were not sent.
    pub(super) fn send(&mut self, pieces: &[(RawFd, &[u8])], sent: &mut Vec<i32>) -> io::Result<()> {
        debug_assert!(pieces.len() <= SENDS);
        sent.clear();
        sent.resize(pieces.len(), i32::MIN);
        for (number, (socket, bytes)) in pieces.iter().enumerate() {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let entry = opcode::Send::new(Fd(*socket), bytes.as_ptr(), len)
                // A full buffer answers EAGAIN instead of keeping the operation, and with it a pointer, in the kernel.
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(number as u64);
            // SAFETY: the entry points at `bytes`, which is borrowed until this function returns. An entry that the kernel
            // takes has completed before the function returns without an error, as all completions are waited for below;
            // and none outlives its submission anyway, as it may not wait. After an error the ring is not used again
            // (see `send`'s contract and `Worker::flush_by_ring`), so that entries that were pushed and not submitted
            // are never looked at.
            if unsafe { self.0.submission().push(&entry) }.is_err() {
                // Never met: the queue has room for all pieces of a call, and is empty between calls.
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let mut left = pieces.len();
        while left > 0 {
            let submitted = self.0.submit_and_wait(left);
            // Also after an error: what was sent must not count as unsent.
            for completion in self.0.completion() {
                if let Some(slot) = sent.get_mut(completion.user_data() as usize) {
                    *slot = completion.result();
                    left -= 1;
                }
            }
            match submitted {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    /// A ring, or why this kernel gives none; then there is nothing to test.
    fn ring() -> Option<Ring> {
        match Ring::new() {
            Ok(ring) => Some(ring),
            Err(error) => {
                assert!(
                    matches!(
                        error.raw_os_error(),
                        Some(libc::ENOSYS | libc::EPERM | libc::EACCES)
                    ) || error.kind() == io::ErrorKind::Unsupported,
                    "{error}"
                );
                None
            }
        }
    }

    #[test]
    fn every_socket_gets_its_piece() {
        let Some(mut ring) = ring() else { return };
        let pairs: Vec<_> = (0..SENDS).map(|_| pair()).collect();
        let texts: Vec<String> = (0..SENDS).map(|number| format!("piece {number}")).collect();
        let mut sent = Vec::new();
        for _ in 0..3 {
            let pieces: Vec<_> = pairs
                .iter()
                .zip(&texts)
                .map(|((ours, _), text)| (ours.as_raw_fd(), text.as_bytes()))
                .collect();
            ring.send(&pieces, &mut sent).unwrap();
            for (((_, theirs), text), sent) in pairs.iter().zip(&texts).zip(&sent) {
                assert_eq!(*sent as usize, text.len());
                let mut got = vec![0; text.len()];
                (&*theirs).read_exact(&mut got).unwrap();
                assert_eq!(got, text.as_bytes());
            }
        }
    }

    #[test]
    fn full_and_closed_sockets_are_told_apart_and_nothing_waits() {
        let Some(mut ring) = ring() else { return };
        let (full, _reader) = pair();
        let (closed, _) = pair();
        closed.shutdown(std::net::Shutdown::Both).unwrap();
        let (well, theirs) = pair();
        let large = vec![7; 64 * 1024 * 1024];
        let mut sent = Vec::new();
        ring.send(
            &[
                (full.as_raw_fd(), &large),
                (closed.as_raw_fd(), b"x"),
                (well.as_raw_fd(), b"ok"),
            ],
            &mut sent,
        )
        .unwrap();
        assert!(
            sent[0] > 0 && (sent[0] as usize) < large.len(),
            "a part: {}",
            sent[0]
        );
        assert_eq!(sent[1..], [-libc::EPIPE, 2]);
        ring.send(&[(full.as_raw_fd(), &large)], &mut sent).unwrap();
        assert_eq!(sent, [-libc::EAGAIN]);
        let mut got = [0; 2];
        (&theirs).read_exact(&mut got).unwrap();
        assert_eq!(&got, b"ok");
    }
}
