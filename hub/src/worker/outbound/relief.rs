//! What leaves a queue that is over its bounds, and what its session is told of it.

use bytes::Bytes;
use common::{message::Position, policy::SlowPolicy, protocol::ServerFrame, topic::TopicKey};
use smallvec::SmallVec;

use super::{AGELESS, Bounds, Outbound};
use crate::ws;

/// Why a session is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::worker) enum Excess {
    /// Its frames are too many bytes.
    Bytes,
    /// Its frames are too many.
    Frames,
    /// A frame that may not be dropped waits too long.
    Age,
    /// The socket takes nothing at all.
    Stalled,
}

impl Excess {
    /// As metrics name it.
    pub(in crate::worker) fn label(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Frames => "frames",
            Self::Age => "age",
            Self::Stalled => "stalled",
        }
    }
}

/// What decides, beside the bounds, what may leave.
#[derive(Debug, Clone, Copy)]
pub(in crate::worker) struct Terms<'a> {
    /// It understands `gap`.
    pub(in crate::worker) takes_gaps: bool,
    /// Topics of a `resume` that is not answered: nothing of their history may leave, for the answer will say that all of
    /// it came.
    pub(in crate::worker) resuming: &'a [TopicKey],
}

/// What was done about a queue that was over its bounds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::worker) struct Relief {
    /// Messages that were dropped.
    pub(in crate::worker) dropped: u64,
    /// `gap` frames that were added.
    pub(in crate::worker) gaps: u64,
    /// Of each topic of which something of history was dropped, the newest.
    pub(in crate::worker) lost: SmallVec<[(TopicKey, Position); 1]>,
    /// It was not enough.
    pub(in crate::worker) evict: Option<Excess>,
}

impl Outbound {
    /// Lets go what the policies allow, until the queue is not too much. Cheap where it is not.
    pub(in crate::worker) fn relieve(&mut self, bounds: &Bounds, terms: Terms<'_>) -> Relief {
        let mut relief = Relief::default();
        self.drop_oldest(bounds, terms, &mut relief);
        if relief.dropped > 0 {
            self.tidy();
        }
        relief.evict = self.too_much(bounds);
        relief
    }

    /// As [`Outbound::relieve`], and what is too old goes too. Asked once a second: age is counted in seconds.
    pub(in crate::worker) fn relieve_aged(&mut self, bounds: &Bounds, terms: Terms<'_>, now: u32) -> Relief {
        if now.saturating_sub(self.taken_at) > bounds.stall {
            return Relief {
                evict: Some(Excess::Stalled),
                ..Relief::default()
            };
        }
        let mut relief = Relief::default();
        if self.waits_too_long(bounds, now) {
            self.drop_old(bounds, terms, now, &mut relief);
        }
        self.drop_oldest(bounds, terms, &mut relief);
        if relief.dropped > 0 {
            self.tidy();
        }
        relief.evict = self
            .too_much(bounds)
            .or_else(|| self.waits_too_long(bounds, now).then_some(Excess::Age));
        relief
    }

    fn too_much(&self, bounds: &Bounds) -> Option<Excess> {
        if self.bytes > bounds.bytes {
            Some(Excess::Bytes)
        } else if self.frames > bounds.frames {
            Some(Excess::Frames)
        } else {
            None
        }
    }

    fn waits_too_long(&self, bounds: &Bounds, now: u32) -> bool {
        let data = self.data.iter().filter(|queued| !queued.is_empty());
        let oldest = data.map(|queued| queued.at).find(|at| *at != AGELESS);
        let torn = self.torn.as_ref().map(|torn| torn.at);
        torn.into_iter()
            .chain(oldest)
            .any(|at| now.saturating_sub(at) > bounds.age)
    }

    /// Drops what has waited for too long. Messages lie in the order in which they came.
    fn drop_old(&mut self, bounds: &Bounds, terms: Terms<'_>, now: u32, relief: &mut Relief) {
        let old = self
            .data
            .iter()
            .take_while(|queued| {
                queued.at == AGELESS || queued.is_empty() || now.saturating_sub(queued.at) > bounds.age
            })
            .count() as u64;
        for number in self.firm.max(self.first)..self.first + old {
            if self.may_leave(number, terms) {
                self.drop_message(number, terms, relief);
            }
        }
    }

    /// Drops the oldest messages until the rest is not too much.
    fn drop_oldest(&mut self, bounds: &Bounds, terms: Terms<'_>, relief: &mut Relief) {
        let mut number = self.firm.max(self.first);
        let mut all_firm = true;
        while number < self.end() && self.too_much(bounds).is_some() {
            if self.may_leave(number, terms) {
                self.drop_message(number, terms, relief);
            } else if self
                .slot(number)
                .is_some_and(|queued| queued.slow == SlowPolicy::DropOldest)
            {
                // It is held only for now.
                all_firm = false;
            }
            number += 1;
            if all_firm {
                // A slot stays what it is, so that the next look begins here.
                self.firm = number;
            }
        }
    }

    fn may_leave(&mut self, number: u64, terms: Terms<'_>) -> bool {
        let counted_on = number < self.counted_on;
        self.slot(number).is_some_and(|queued| {
            queued.slow == SlowPolicy::DropOldest
                && queued.message.as_ref().is_some_and(|outgoing| {
                    let message = &outgoing.message;
                    message.position.is_none() || !(counted_on || terms.resuming.contains(&message.key))
                })
        })
    }

    /// Drops a message. The first one of its topic leaves a `gap` frame in its place, before all that comes behind it; as
    /// long as that is not written it stands for later ones too, for who resumes from it gets them as well.
    fn drop_message(&mut self, number: u64, terms: Terms<'_>, relief: &mut Relief) {
        let Some(outgoing) = self.empty(number) else {
            return;
        };
        relief.dropped += 1;
        let message = &outgoing.message;
        let Some(at) = message.position else { return };
        match relief.lost.iter_mut().find(|(key, _)| *key == message.key) {
            Some((_, newest)) => *newest = at,
            None => relief.lost.push((message.key.clone(), at)),
        }
        if !terms.takes_gaps {
            return;
        }
        let first = self.first;
        self.gaps.retain(|(_, gap)| *gap >= first);
        if self.gaps.iter().any(|(key, _)| *key == message.key) {
            return;
        }
        // All before it was written, or lies in front, or was not for this session.
        let frame = ws::encode_text(&[ServerFrame::Gap {
            topic: &message.key.public_name(),
            position: at.before().to_string(),
        }
        .to_json()]);
        self.gaps.push((message.key.clone(), number));
        relief.gaps += 1;
        self.fill(number, frame);
    }

    /// Puts a frame that has to be written into an empty slot. It does not grow old: the messages for which it stands did,
    /// and were not a reason to evict.
    fn fill(&mut self, number: u64, frame: Bytes) {
        let len = frame.len();
        if let Some(queued) = self.slot(number) {
            queued.frame = frame;
            queued.slow = SlowPolicy::Evict;
            queued.at = AGELESS;
            self.bytes += len;
            self.frames += 1;
        }
    }

    /// Drops what is not to be delivered any more at this time, Unix milliseconds; how many messages.
    pub(in crate::worker) fn expire(&mut self, clock: impl FnOnce() -> i64) -> u64 {
        if self.expires_at == i64::MAX {
            return 0;
        }
        let now = clock();
        if now < self.expires_at {
            return 0;
        }
        self.expires_at = i64::MAX;
        let mut expired = 0;
        for number in self.first..self.end() {
            let Some(header) = self
                .slot(number)
                .and_then(|queued| queued.message.as_ref())
                .map(|outgoing| &outgoing.message.header)
            else {
                continue;
            };
            let (at, receipt) = (header.expires_at, header.receipt);
            match at {
                Some(at) if at <= now => {
                    expired += 1;
                    drop(self.empty(number));
                    // The ping by which the seeds' dialect acknowledges a message must not come without it.
                    if receipt && self.slot(number + 1).is_some_and(|next| ws::is_ping(&next.frame)) {
                        drop(self.empty(number + 1));
                    }
                }
                Some(at) => self.expires_at = self.expires_at.min(at),
                None => {}
            }
        }
        self.tidy();
        expired
    }
}
