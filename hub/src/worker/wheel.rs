//! A worker's clock: seconds since it began, heartbeats spread over their interval, and what is due at a second.

use std::collections::BTreeMap;

use super::SessionId;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The token ends soon.
    Expiring(SessionId),
    /// The token ended.
    Expired(SessionId),
    /// The orderly close took too long.
    Drop(SessionId),
    /// The session is told to reconnect.
    Drain(SessionId),
    /// A topic has had no member for a while.
    Linger(u32),
    /// A user's last session left a topic a while ago.
    Absent(u32),
}

/// One timing wheel for heartbeats, and a sorted list for what happens once.
#[derive(Debug)]
pub(crate) struct Wheel {
    now: u32,
    /// Sessions by the second of the heartbeat interval in which they are pinged.
    beats: Vec<Vec<SessionId>>,
    once: BTreeMap<u32, Vec<Due>>,
}

impl Wheel {
    pub(crate) fn new(heartbeat_seconds: usize) -> Self {
        Self {
            now: 0,
            beats: vec![Vec::new(); heartbeat_seconds.max(1)],
            once: BTreeMap::new(),
        }
    }

    /// The worker's second.
    pub(crate) fn now(&self) -> u32 {
        self.now
    }

    /// Gives a session its place: spread evenly, whatever the order of arrival.
    pub(crate) fn beat(&mut self, session: SessionId) {
        let place = fastrand::usize(..self.beats.len());
        self.beats[place].push(session);
    }

    /// Something is due after so many seconds, at the soonest with the next tick.
    pub(crate) fn after(&mut self, seconds: u32, due: Due) {
        self.once
            .entry(self.now.saturating_add(seconds.max(1)))
            .or_default()
            .push(due);
    }

    /// A second has passed: who is pinged, and what is due. The caller returns the sessions that are still there by
    /// [`Wheel::keep`].
    pub(crate) fn tick(&mut self) -> (Vec<SessionId>, Vec<Due>) {
        self.now += 1;
        let place = self.now as usize % self.beats.len();
        let beats = std::mem::take(&mut self.beats[place]);
        let mut due = Vec::new();
        while let Some(entry) = self.once.first_entry() {
            if *entry.key() > self.now {
                break;
            }
            due.append(&mut entry.remove());
        }
        (beats, due)
    }

    /// Puts back those that [`Wheel::tick`] gave and that live on.
    pub(crate) fn keep(&mut self, mut sessions: Vec<SessionId>) {
        let place = self.now as usize % self.beats.len();
        self.beats[place].append(&mut sessions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_beats_once_an_interval() {
        let mut wheel = Wheel::new(25);
        for number in 0..1000 {
            wheel.beat(SessionId {
                slot: number,
                generation: 0,
            });
        }
        for _ in 0..3 {
            let mut seen = std::collections::HashSet::new();
            for _ in 0..25 {
                let (beats, _) = wheel.tick();
                assert!(beats.len() < 100, "spread");
                seen.extend(beats.iter().map(|session| session.slot));
                wheel.keep(beats);
            }
            assert_eq!(seen.len(), 1000);
        }
    }

    #[test]
    fn what_is_due_comes_once_and_in_time() {
        let mut wheel = Wheel::new(5);
        wheel.after(2, Due::Linger(1));
        wheel.after(0, Due::Linger(2));
        assert_eq!(wheel.tick().1, [Due::Linger(2)]);
        assert_eq!(wheel.tick().1, [Due::Linger(1)]);
        assert_eq!(wheel.tick().1, []);
    }
}
