//! A session's outbound queue: what the kernel did not take. Bounded in bytes and in age; made only when needed.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

/// Slices of one write.
pub(crate) const MAX_SLICES: usize = 64;

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes.
    pub(crate) bytes: usize,
    /// Seconds that the oldest frame may wait.
    pub(crate) age: u32,
}

#[derive(Debug)]
struct Queued {
    frame: Bytes,
    /// The worker's second.
    at: u32,
}

/// Frames that wait for the socket. Control frames have a lane of their own, which goes first.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    control: VecDeque<Bytes>,
    data: VecDeque<Queued>,
    /// The frame that the kernel took in part, and how much of it. It must be ended before any other.
    torn: Option<(Bytes, usize)>,
    bytes: usize,
    torn_at: u32,
}

impl Outbound {
    pub(crate) fn is_empty(&self) -> bool {
        self.torn.is_none() && self.control.is_empty() && self.data.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a frame behind the others.
    pub(crate) fn push(&mut self, frame: Bytes, now: u32) {
        self.bytes += frame.len();
        self.data.push_back(Queued { frame, at: now });
    }

    /// Adds a frame of which the kernel took `written` bytes already.
    pub(crate) fn push_torn(&mut self, frame: Bytes, written: usize, now: u32) {
        debug_assert!(self.is_empty() && written > 0 && written < frame.len());
        self.bytes += frame.len() - written;
        self.torn = Some((frame, written));
        self.torn_at = now;
    }

    /// Adds a control frame to its lane.
    pub(crate) fn push_control(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.control.push_back(frame);
    }

    /// Whether the reader is too slow.
    pub(crate) fn is_over(&self, bounds: Bounds, now: u32) -> bool {
        let oldest = if self.torn.is_some() {
            Some(self.torn_at)
        } else {
            self.data.front().map(|queued| queued.at)
        };
        self.bytes > bounds.bytes || oldest.is_some_and(|at| now.saturating_sub(at) > bounds.age)
    }

    /// Drops what waits and ends with this frame; only a frame that is torn is still ended first.
    pub(crate) fn end_with(&mut self, close: Bytes) {
        self.data = VecDeque::new();
        self.control = VecDeque::new();
        self.bytes = self
            .torn
            .as_ref()
            .map_or(0, |(frame, written)| frame.len() - written);
        self.push_control(close);
    }

    /// The next bytes for a vectored write.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let torn = self.torn.iter().map(|(frame, written)| &frame[*written..]);
        let waiting = torn
            .chain(self.control.iter().map(AsRef::as_ref))
            .chain(self.data.iter().map(|queued| &queued.frame[..]));
        let mut count = 0;
        for (slot, bytes) in slices.iter_mut().zip(waiting) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    /// The kernel took so many bytes of what [`Outbound::slices`] showed.
    pub(crate) fn advance(&mut self, mut taken: usize, now: u32) {
        self.bytes -= taken;
        if let Some((frame, written)) = &mut self.torn {
            let left = frame.len() - *written;
            if taken < left {
                *written += taken;
                return;
            }
            taken -= left;
            self.torn = None;
        }
        while taken > 0 {
            let Some((frame, at)) = self
                .control
                .pop_front()
                .map(|frame| (frame, now))
                .or_else(|| self.data.pop_front().map(|q| (q.frame, q.at)))
            else {
                return;
            };
            if taken < frame.len() {
                self.torn = Some((frame, taken));
                self.torn_at = at;
                return;
            }
            taken -= frame.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(outbound: &Outbound) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = outbound.slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    proptest! {
        /// However the kernel takes the bytes, whole frames come out, data frames in their order.
        #[test]
        fn no_frame_is_torn_or_lost(frames in prop::collection::vec((any::<bool>(), 1usize..20), 1..60), takes in prop::collection::vec(1usize..30, 1..400)) {
            let mut outbound = Outbound::default();
            let mut out: Vec<u8> = Vec::new();
            let mut takes = takes.into_iter().cycle();
            let mut take = |outbound: &mut Outbound, out: &mut Vec<u8>| {
                let bytes = written(outbound);
                let taken = takes.next().unwrap().min(bytes.len());
                out.extend_from_slice(&bytes[..taken]);
                outbound.advance(taken, 0);
            };
            for (number, (control, len)) in frames.iter().enumerate() {
                // A frame is its length, then its number so many times.
                let mut frame = vec![*len as u8];
                frame.extend(std::iter::repeat_n(number as u8, *len));
                if *control { outbound.push_control(frame.into()) } else { outbound.push(frame.into(), 0) }
                take(&mut outbound, &mut out);
            }
            while !outbound.is_empty() {
                take(&mut outbound, &mut out);
            }
            prop_assert_eq!(outbound.bytes, 0);
            let mut seen = Vec::new();
            let mut rest = &out[..];
            while let Some((len, body)) = rest.split_first() {
                let (body, after) = body.split_at(usize::from(*len));
                prop_assert!(body.iter().all(|byte| *byte == body[0]));
                seen.push(usize::from(body[0]));
                rest = after;
            }
            prop_assert_eq!(seen.len(), frames.len());
            let data: Vec<_> = seen.into_iter().filter(|number| !frames[*number].0).collect();
            prop_assert!(data.is_sorted());
        }
    }

    #[test]
    fn bounds_are_bytes_and_age() {
        let bounds = Bounds { bytes: 10, age: 5 };
        let mut outbound = Outbound::default();
        outbound.push(Bytes::from_static(b"12345"), 100);
        assert!(!outbound.is_over(bounds, 105));
        assert!(outbound.is_over(bounds, 106));
        outbound.push(Bytes::from_static(b"123456"), 100);
        assert!(outbound.is_over(bounds, 100));
        outbound.advance(3, 100);
        outbound.end_with(Bytes::from_static(b"close"));
        assert_eq!(written(&outbound), b"45close");
    }
}
