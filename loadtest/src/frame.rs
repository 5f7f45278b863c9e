//! The least of RFC 6455 that a reader needs: server frames in, masked control frames out.

/// Opcodes (RFC 6455 section 5.2).
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Largest message that is believed, in bytes; more means that the stream is out of step.
const MAX_PAYLOAD: usize = 16 * 1024 * 1024;

/// What a server may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadFrame(pub(crate) &'static str);

/// The bit that says that a message is compressed (RFC 7692 section 6).
const RSV1: u8 = 0x40;

/// Cuts a byte stream into messages. Only an incomplete frame is kept between calls.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pending: Vec<u8>,
    message: Vec<u8>,
    /// First byte of a message that is not whole yet.
    first: u8,
    /// Whether messages may be compressed.
    deflate: bool,
}

impl Frames {
    pub(crate) fn new(deflate: bool) -> Self {
        Self {
            deflate,
            ..Self::default()
        }
    }

    /// Takes what was read and hands on every whole message and control frame: its opcode, whether it is compressed, its
    /// payload as it came.
    pub(crate) fn take(&mut self, bytes: &[u8], mut on: impl FnMut(u8, bool, &[u8])) -> Result<(), BadFrame> {
        if self.pending.is_empty() {
            let used = self.cut(bytes, &mut on)?;
            self.pending.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let used = self.cut(&pending, &mut on)?;
        pending.drain(..used);
        self.pending = pending;
        Ok(())
    }

    fn cut(&mut self, bytes: &[u8], on: &mut impl FnMut(u8, bool, &[u8])) -> Result<usize, BadFrame> {
        let mut used = 0;
        while let Some((first, header, len)) = head(&bytes[used..])? {
            let Some(payload) = bytes.get(used + header..used + header + len) else {
                break;
            };
            used += header + len;
            let (fin, opcode, compressed) = (first & 0x80 != 0, first & 0x0f, first & RSV1 != 0);
            if compressed && !(self.deflate && matches!(opcode, TEXT | BINARY)) {
                return Err(BadFrame("reserved bits"));
            }
            match (opcode, fin) {
                (8.., _) => on(opcode, false, payload),
                (TEXT | BINARY, true) => on(opcode, compressed, payload),
                (TEXT | BINARY, false) => {
                    self.first = first;
                    self.message.clear();
                    self.message.extend_from_slice(payload);
                }
                (0, fin) => {
                    self.message.extend_from_slice(payload);
                    if fin {
                        on(self.first & 0x0f, self.first & RSV1 != 0, &self.message);
                        self.message.clear();
                    }
                }
                _ => return Err(BadFrame("reserved opcode")),
            }
        }
        Ok(used)
    }
}

/// First byte, length of the header, length of the payload; none when the header is not whole.
fn head(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, BadFrame> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    if first & 0x30 != 0 {
        return Err(BadFrame("reserved bits"));
    }
    if second & 0x80 != 0 {
        return Err(BadFrame("masked by the server"));
    }
    let (header, len) = match second {
        126 => match bytes.get(2..4).and_then(|len| len.try_into().ok()) {
            Some(len) => (4, usize::from(u16::from_be_bytes(len))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|len| len.try_into().ok()) {
            Some(len) => (10, usize::try_from(u64::from_be_bytes(len)).unwrap_or(usize::MAX)),
            None => return Ok(None),
        },
        len => (2, usize::from(len)),
    };
    if len > MAX_PAYLOAD {
        Err(BadFrame("impossible length"))
    } else {
        Ok(Some((first, header, len)))
    }
}

/// Appends a client's frame: whole, and masked as it has to be (section 5.3).
pub(crate) fn masked(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    let mask = fastrand::u32(..).to_be_bytes();
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            len @ 0..=125 => out.push(len as u8),
            len @ 126..=65535 => {
                out.push(126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn messages_come_whole_however_the_bytes_are_cut() {
        let mut stream = Vec::new();
        let long = vec![b'x'; 70_000];
        let middle = vec![b'y'; 300];
        for part in [
            frame(0x81, b"a"),
            frame(0x01, b"b"),
            frame(0x89, b"p"),
            frame(0x80, b"c"),
            frame(0x81, &middle),
            frame(0x82, &long),
            frame(0xc1, b"d"),
            frame(0x42, b"e"),
            frame(0x80, b"f"),
        ] {
            stream.extend(part);
        }
        let wanted = [
            (1, false, b"a".to_vec()),
            (9, false, b"p".to_vec()),
            (1, false, b"bc".to_vec()),
            (1, false, middle),
            (2, false, long),
            (1, true, b"d".to_vec()),
            (2, true, b"ef".to_vec()),
        ];
        for step in [1, 2, 3, 7, 4096, stream.len()] {
            let mut frames = Frames::new(true);
            let mut got = Vec::new();
            for chunk in stream.chunks(step) {
                frames
                    .take(chunk, |opcode, compressed, payload| {
                        got.push((opcode, compressed, payload.to_vec()))
                    })
                    .unwrap();
            }
            assert_eq!(got, wanted, "in steps of {step}");
        }
    }

    #[test]
    fn what_a_server_may_not_send_is_seen() {
        for (bytes, reason) in [
            (&[0x81, 0x81, 0][..], "masked by the server"),
            (&[0xc1, 0], "reserved bits"),
            (&[0x83, 0], "reserved opcode"),
        ] {
            assert_eq!(Frames::default().take(bytes, |_, _, _| ()), Err(BadFrame(reason)));
        }
        // A control frame and the rest of a message are never marked as compressed; the other bits have no meaning.
        for bytes in [[0xc9, 0], [0xc0, 0], [0xa1, 0], [0x91, 0]] {
            let taken = Frames::new(true).take(&bytes, |_, _, _| ());
            assert_eq!(taken, Err(BadFrame("reserved bits")), "{bytes:x?}");
        }
    }
}
