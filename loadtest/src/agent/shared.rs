//! What all sockets of a client process count together.

use std::collections::{BTreeMap, HashMap};

use memchr::memmem;

use super::record::Record;
use crate::{
    stamp::{STAMP, Stamps, Topic},
    times::Times,
    wire::{Resynced, Rounds, Setup},
};

/// Of so many topics and sessions that were told `resync` each is told to the parent; what comes beyond is only counted.
const RESYNCED: usize = 100_000;

/// Counters and times since the last mark.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stamps: Stamps,
    track: bool,
    stream: bool,
    rounds_by: Rounds,
    rounds: HashMap<u32, Round>,
    /// Broadcasts that have arrived everywhere.
    pub(super) whole_rounds: Vec<(u32, Round)>,
    /// Sockets that a broadcast has to reach.
    pub(super) members: u32,
    pub(super) received: u64,
    pub(super) reads: u64,
    /// Bytes that were read.
    pub(super) bytes: u64,
    /// Messages that came compressed.
    pub(super) compressed: u64,
    pub(super) delivery: Times,
    /// The same since the last tick.
    pub(super) recent: Times,
    pub(super) recent_received: u64,
    pub(super) whole: Times,
    pub(super) spread: Times,
    pub(super) reopen: Times,
    pub(super) closed: BTreeMap<String, u64>,
    /// Sockets that the server closed, marks or not.
    pub(super) closed_ever: u64,
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) handshakes: u64,
    pub(super) resumed: u64,
    pub(super) recovered: u64,
    pub(super) resyncs: u64,
    pub(super) resynced: Vec<Resynced>,
    /// The same since the last tick.
    pub(super) recent_resyncs: u64,
    pub(super) gaps: u64,
}

/// Where a broadcast has arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    sockets: u32,
    pub(super) at_us: u64,
    pub(super) first_us: u64,
    pub(super) last_us: u64,
}

impl Shared {
    pub(super) fn new(setup: &Setup) -> anyhow::Result<Self> {
        Ok(Self {
            stamps: Stamps::new(setup.run),
            track: setup.resume,
            stream: setup.target.socket.stream,
            rounds_by: setup.rounds,
            rounds: HashMap::new(),
            whole_rounds: Vec::new(),
            members: 0,
            received: 0,
            reads: 0,
            bytes: 0,
            compressed: 0,
            delivery: Times::new()?,
            recent: Times::new()?,
            recent_received: 0,
            whole: Times::new()?,
            spread: Times::new()?,
            reopen: Times::new()?,
            closed: BTreeMap::new(),
            closed_ever: 0,
            refused: BTreeMap::new(),
            handshakes: 0,
            resumed: 0,
            recovered: 0,
            resyncs: 0,
            resynced: Vec::new(),
            recent_resyncs: 0,
            gaps: 0,
        })
    }

    /// A session was told that messages of a topic are missing.
    pub(super) fn resync(&mut self, resynced: Resynced) {
        self.resyncs += 1;
        self.recent_resyncs += 1;
        if self.resynced.len() < RESYNCED {
            self.resynced.push(resynced);
        }
    }

    /// Takes the messages in a frame. False: there is none of this run in it.
    pub(super) fn message(
        &mut self,
        record: &mut Record,
        rest: &mut Vec<u8>,
        payload: &[u8],
        now_us: u64,
    ) -> bool {
        if !self.stream {
            return self.stamps_in(record, payload, now_us) > 0;
        }
        // A message of a byte stream may begin in one frame and end in the next.
        if rest.is_empty() {
            let end = self.stamps_in(record, payload, now_us);
            rest.extend_from_slice(&payload[end.max(payload.len().saturating_sub(STAMP - 1))..]);
            return end > 0;
        }
        let mut joined = std::mem::take(rest);
        joined.extend_from_slice(payload);
        let end = self.stamps_in(record, &joined, now_us);
        rest.extend_from_slice(&joined[end.max(joined.len().saturating_sub(STAMP - 1))..]);
        end > 0
    }

    /// Takes the stamps of a message; the end of the last.
    fn stamps_in(&mut self, record: &mut Record, message: &[u8], now_us: u64) -> usize {
        let mut end = 0;
        while let Some((stamp, after)) = self.stamps.next(message, end) {
            end = after;
            match position(message).filter(|_| self.track) {
                Some(position) => {
                    record.take_at(stamp, position);
                }
                None => record.take(stamp),
            }
            let took = now_us.saturating_sub(stamp.at_us);
            self.delivery.add(took);
            self.recent.add(took);
            self.received += 1;
            self.recent_received += 1;
            if self.rounds_by != Rounds::Off && stamp.topic == Topic::ALL {
                self.arrived(stamp.number, stamp.at_us, now_us);
            }
        }
        end
    }

    fn arrived(&mut self, number: u32, at_us: u64, now_us: u64) {
        let round = self.rounds.entry(number).or_insert(Round {
            sockets: 0,
            at_us,
            first_us: now_us,
            last_us: now_us,
        });
        round.sockets += 1;
        round.last_us = round.last_us.max(now_us);
        if round.sockets >= self.members {
            let round = *round;
            self.rounds.remove(&number);
            self.finish(number, round);
        }
    }

    fn finish(&mut self, number: u32, round: Round) {
        if self.rounds_by == Rounds::Here {
            self.whole.add(round.last_us.saturating_sub(round.at_us));
            self.spread.add(round.last_us - round.first_us);
        }
        self.whole_rounds.push((number, round));
    }

    /// A socket has gone: some broadcasts may have arrived at all that are left.
    pub(super) fn fewer_members(&mut self, members: u32) {
        self.members = members;
        let whole: Vec<u32> = self
            .rounds
            .iter()
            .filter(|(_, round)| round.sockets >= members)
            .map(|(number, _)| *number)
            .collect();
        for number in whole {
            if let Some(round) = self.rounds.remove(&number) {
                self.finish(number, round);
            }
        }
    }
}

/// The position in a frame of Carillon; it stands last.
fn position(frame: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\"position\":\"";
    let at = memmem::rfind(frame, KEY)? + KEY.len();
    let len = memchr::memchr(b'"', &frame[at..])?;
    std::str::from_utf8(&frame[at..at + len]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_found_at_the_end() {
        let frame =
            br#"{"type":"message","id":"x","data":"@..","topic":"tenant","position":"5f:7:9ab41c22"}"#;
        assert_eq!(position(frame), Some("5f:7:9ab41c22"));
        assert_eq!(position(b"{}"), None);
    }
}
