//! A session's outbound queue: references to what the kernel did not take. Bounded in bytes, frames and age; made only
//! when needed. What goes when it is over its bounds stands in `relief`.

mod relief;

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher,
    io::IoSlice,
    sync::Arc,
};

use bytes::Bytes;
use common::{message::Priority, policy::SlowPolicy, topic::TopicKey};

pub(super) use self::relief::{Relief, Terms};
use crate::receive::Outgoing;

/// Slices of one write.
pub(crate) const MAX_SLICES: usize = 64;

/// Emptied slots that are kept before the queue is put together anew.
const EMPTY_MIN: usize = 32;

/// The age of what never grows old.
const AGELESS: u32 = u32::MAX;

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes.
    pub(crate) bytes: usize,
    /// Frames.
    pub(crate) frames: usize,
    /// Seconds that a frame may wait.
    pub(crate) age: u32,
    /// Seconds in which the kernel has to take something.
    pub(crate) stall: u32,
}

/// A slot of the data lane. One whose frame left early is empty until the slots before it have gone.
#[derive(Debug)]
struct Queued {
    frame: Bytes,
    /// The message, where its policy may let it go; none for what has to be written.
    message: Option<Arc<Outgoing>>,
    slow: SlowPolicy,
    /// The worker's second.
    at: u32,
}

impl Queued {
    fn is_empty(&self) -> bool {
        self.frame.is_empty()
    }
}

/// The frame that the kernel took in part. It must be ended before any other.
#[derive(Debug)]
struct Torn {
    frame: Bytes,
    written: usize,
    at: u32,
}

/// Frames that wait for the socket. Control frames have a lane of their own, which goes first.
#[derive(Debug)]
pub(crate) struct Outbound {
    control: VecDeque<Bytes>,
    data: VecDeque<Queued>,
    torn: Option<Torn>,
    bytes: usize,
    /// Slots of `data` that are not empty.
    frames: usize,
    /// The number of the first slot; numbers are not used again.
    first: u64,
    /// Where the newest message of a topic and conflation key lies, by their hash.
    latest: HashMap<u64, u64>,
    /// Where the `gap` frame of a topic lies that was not written yet.
    gaps: Vec<(TopicKey, u64)>,
    /// In front of this number lies what a `recovered` behind it counts on.
    counted_on: u64,
    /// In front of this number nothing can be dropped.
    firm: u64,
    /// When the next message expires, Unix milliseconds.
    expires_at: i64,
    /// The worker's second in which the kernel last took something, or refused first.
    taken_at: u32,
}

impl Outbound {
    pub(crate) fn new(now: u32) -> Self {
        Self {
            control: VecDeque::new(),
            data: VecDeque::new(),
            torn: None,
            bytes: 0,
            frames: 0,
            first: 0,
            latest: HashMap::new(),
            gaps: Vec::new(),
            counted_on: 0,
            firm: 0,
            expires_at: i64::MAX,
            taken_at: now,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.torn.is_none() && self.control.is_empty() && self.frames == 0
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn end(&self) -> u64 {
        self.first + self.data.len() as u64
    }

    fn slot(&mut self, number: u64) -> Option<&mut Queued> {
        let at = number.checked_sub(self.first)?;
        self.data.get_mut(usize::try_from(at).ok()?)
    }

    /// Adds a frame of the session's own behind the others.
    pub(crate) fn push(&mut self, frame: Bytes, now: u32) {
        self.push_slot(Queued {
            frame,
            message: None,
            slow: SlowPolicy::Evict,
            at: now,
        });
    }

    /// Adds a message behind the others; whether an older one gave way to it.
    ///
    /// The newer value goes to the end and not to the place of the older one: there it would overtake messages of its topic
    /// that lie between, and a client that was cut behind it would take them for received.
    pub(crate) fn push_message(
        &mut self,
        outgoing: &Arc<Outgoing>,
        frame: &Bytes,
        policy: SlowPolicy,
        now: u32,
    ) -> bool {
        let slow = effective(outgoing, policy);
        let conflated = slow == SlowPolicy::Latest && self.make_way(outgoing);
        let header = &outgoing.message.header;
        if let Some(at) = header.expires_at {
            self.expires_at = self.expires_at.min(at);
        }
        self.push_slot(Queued {
            frame: frame.clone(),
            message: Some(Arc::clone(outgoing)),
            slow,
            at: now,
        });
        conflated
    }

    fn push_slot(&mut self, queued: Queued) {
        self.bytes += queued.frame.len();
        self.frames += 1;
        self.data.push_back(queued);
    }

    /// Empties the slot of the older value, and remembers where the newer one will lie.
    fn make_way(&mut self, outgoing: &Outgoing) -> bool {
        let Some(key) = &outgoing.message.header.conflate else {
            return false;
        };
        let topic = &outgoing.message.key;
        // Keys whose values were written are forgotten now and then.
        if self.latest.len() > EMPTY_MIN.max(2 * self.frames) {
            let first = self.first;
            self.latest.retain(|_, number| *number >= first);
        }
        let hash = self.latest.hasher().hash_one((topic.as_str(), key));
        let end = self.end();
        let Some(older) = self.latest.insert(hash, end) else {
            return false;
        };
        let same = self
            .slot(older)
            .and_then(|queued| queued.message.as_ref())
            .is_some_and(|old| {
                old.message.key == *topic && old.message.header.conflate.as_ref() == Some(key)
            });
        if same {
            self.empty(older);
            self.tidy();
        }
        same
    }

    /// Adds a frame of which the kernel took `written` bytes already. Only what could not go anyway grows old.
    pub(crate) fn push_torn(&mut self, frame: Bytes, written: usize, ages: bool, now: u32) {
        debug_assert!(self.is_empty() && written > 0 && written < frame.len());
        self.bytes += frame.len() - written;
        self.torn = Some(Torn {
            frame,
            written,
            at: if ages { now } else { AGELESS },
        });
    }

    /// Adds a control frame to its lane.
    pub(crate) fn push_control(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.control.push_back(frame);
    }

    /// A `recovered` was added: what lies in front of it is not dropped any more, for it says that all of it came.
    pub(crate) fn count_on(&mut self) {
        self.counted_on = self.end();
    }

    /// Drops what waits and ends with this frame; only a frame that is torn is still ended first.
    pub(crate) fn end_with(&mut self, close: Bytes) {
        let torn = self.torn.take();
        *self = Self::new(self.taken_at);
        self.bytes = torn.as_ref().map_or(0, |torn| torn.frame.len() - torn.written);
        self.torn = torn;
        self.push_control(close);
    }

    /// The next bytes for a vectored write.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let torn = self.torn.iter().map(|torn| &torn.frame[torn.written..]);
        let data = self.data.iter().filter(|queued| !queued.is_empty());
        let waiting = torn
            .chain(self.control.iter().map(AsRef::as_ref))
            .chain(data.map(|queued| &queued.frame[..]));
        let mut count = 0;
        for (slot, bytes) in slices.iter_mut().zip(waiting) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    /// The kernel took so many bytes of what [`Outbound::slices`] showed.
    pub(crate) fn advance(&mut self, mut taken: usize, now: u32) {
        if taken > 0 {
            self.taken_at = now;
        }
        self.bytes -= taken;
        if let Some(torn) = &mut self.torn {
            let left = torn.frame.len() - torn.written;
            if taken < left {
                torn.written += taken;
                return;
            }
            taken -= left;
            self.torn = None;
        }
        while taken > 0 {
            let Some((frame, at)) = self
                .control
                .pop_front()
                .map(|frame| (frame, AGELESS))
                .or_else(|| self.pop_data())
            else {
                return;
            };
            if taken < frame.len() {
                self.torn = Some(Torn {
                    frame,
                    written: taken,
                    at,
                });
                break;
            }
            taken -= frame.len();
        }
        self.tidy();
    }

    /// Takes the first slot's frame, which is empty where it left early, and the second from which it ages as a torn one.
    fn pop_data(&mut self) -> Option<(Bytes, u32)> {
        let queued = self.data.pop_front()?;
        self.first += 1;
        self.frames -= usize::from(!queued.is_empty());
        let at = if queued.slow == SlowPolicy::Evict {
            queued.at
        } else {
            AGELESS
        };
        Some((queued.frame, at))
    }

    /// Empties a slot.
    fn empty(&mut self, number: u64) -> Option<Arc<Outgoing>> {
        let queued = self.slot(number).filter(|queued| !queued.is_empty())?;
        let frame = std::mem::take(&mut queued.frame);
        let message = queued.message.take();
        queued.slow = SlowPolicy::Evict;
        self.bytes -= frame.len();
        self.frames -= 1;
        message
    }

    /// Forgets empty slots: those in front at once, others when they are more than the rest, so that their cost is shared
    /// by the messages that emptied them.
    fn tidy(&mut self) {
        while self.data.front().is_some_and(Queued::is_empty) {
            self.data.pop_front();
            self.first += 1;
        }
        let empty = self.data.len() - self.frames;
        if empty <= EMPTY_MIN.max(self.frames) {
            return;
        }
        let mut next = self.first;
        let moved: Vec<u64> = self
            .data
            .iter()
            .map(|queued| {
                let number = next;
                next += u64::from(!queued.is_empty());
                number
            })
            .collect();
        let (first, end) = (self.first, next);
        // A number of a slot that has gone stays below the first one.
        let renumber = |number: u64| match number.checked_sub(first) {
            Some(at) => moved.get(at as usize).copied().unwrap_or(end),
            None => number,
        };
        self.latest.retain(|_, number| *number >= first);
        self.latest
            .values_mut()
            .for_each(|number| *number = renumber(*number));
        self.gaps.retain(|(_, number)| *number >= first);
        self.gaps
            .iter_mut()
            .for_each(|(_, number)| *number = renumber(*number));
        self.counted_on = renumber(self.counted_on);
        self.firm = renumber(self.firm);
        self.data.retain(|queued| !queued.is_empty());
    }
}

/// What may become of a message. A critical one is never let go; nor is one whose receipt somebody waits for.
pub(crate) fn effective(outgoing: &Outgoing, policy: SlowPolicy) -> SlowPolicy {
    let header = &outgoing.message.header;
    let policy = header.slow.unwrap_or(policy);
    let firm = header.priority == Priority::Critical || header.receipt;
    match policy {
        _ if firm => SlowPolicy::Evict,
        SlowPolicy::Latest if header.conflate.is_none() => SlowPolicy::Evict,
        policy => policy,
    }
}

#[cfg(test)]
mod tests;
