//! The other nodes, as far as they were heard.
//!
//! Who says nothing for three announcements has gone. Time is measured by what this node hears of itself: an interval in
//! which its own announcement did not come back over the bus counts for nobody, so that a bus that is silent makes no node
//! disappear.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use common::ids::NodeId;

use super::announcement::Announcement;

/// Nodes that are known at the most; beyond, they are left out and counted.
const MAX_PEERS: usize = 1024;

/// An announcement may be on its way for so long.
const SLACK: Duration = Duration::from_millis(250);

/// Another node.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// What it said last; none while only its name is known.
    pub(crate) said: Option<Announcement>,
    heard: Duration,
}

/// What came of hearing a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It was known.
    Known,
    /// It is new.
    New,
    /// There are too many.
    Full,
}

/// All others.
#[derive(Debug)]
pub(crate) struct Peers {
    every: Duration,
    known: BTreeMap<NodeId, Peer>,
    /// When this node's announcement came back last, and how much time was counted until then.
    echoed: Instant,
    counted: Duration,
}

impl Peers {
    /// Nodes that announce themselves so often.
    pub(crate) fn new(every: Duration, now: Instant) -> Self {
        Self {
            every,
            known: BTreeMap::new(),
            echoed: now,
            counted: Duration::ZERO,
        }
    }

    /// Longest time between two of this node's announcements as it hears them, jitter included.
    fn interval(&self) -> Duration {
        self.every * 4 / 3 + SLACK
    }

    fn clock(&self, now: Instant) -> Duration {
        self.counted + now.saturating_duration_since(self.echoed).min(self.interval())
    }

    /// This node's own announcement came back.
    pub(crate) fn echo(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.echoed);
        if since <= self.interval() {
            self.counted += since;
        }
        self.echoed = now;
    }

    /// A node announced itself.
    pub(crate) fn heard(&mut self, node: &NodeId, said: Announcement, now: Instant) -> Heard {
        let heard = self.clock(now);
        if let Some(peer) = self.known.get_mut(node) {
            let new = peer.said.is_none();
            peer.said = Some(said);
            peer.heard = heard;
            return if new { Heard::New } else { Heard::Known };
        }
        if self.known.len() >= MAX_PEERS {
            return Heard::Full;
        }
        self.known.insert(
            node.clone(),
            Peer {
                said: Some(said),
                heard,
            },
        );
        Heard::New
    }

    /// A node left traces but was never heard: it may be there, or have gone before this node began.
    pub(crate) fn suspect(&mut self, node: &NodeId, now: Instant) {
        let heard = self.clock(now);
        if !self.known.contains_key(node) && self.known.len() < MAX_PEERS {
            self.known.insert(node.clone(), Peer { said: None, heard });
        }
    }

    /// A node said goodbye; whether it was known.
    pub(crate) fn leave(&mut self, node: &NodeId) -> bool {
        self.known.remove(node).is_some()
    }

    /// Takes out those who were not heard for three announcements.
    pub(crate) fn take_silent(&mut self, now: Instant) -> Vec<NodeId> {
        let clock = self.clock(now);
        let silence = self.every * 3;
        let silent = |peer: &Peer| clock.saturating_sub(peer.heard) >= silence;
        let gone: Vec<NodeId> = self
            .known
            .iter()
            .filter(|(_, peer)| silent(peer))
            .map(|(node, _)| node.clone())
            .collect();
        for node in &gone {
            self.known.remove(node);
        }
        gone
    }

    /// Whether the node is there.
    pub(crate) fn knows(&self, node: &NodeId) -> bool {
        self.known.get(node).is_some_and(|peer| peer.said.is_some())
    }

    /// Those that are there.
    pub(crate) fn live(&self) -> impl Iterator<Item = (&NodeId, &Announcement)> {
        self.known
            .iter()
            .filter_map(|(node, peer)| Some((node, peer.said.as_ref()?)))
    }

    /// How long ago a node was heard.
    pub(crate) fn silence(&self, node: &NodeId, now: Instant) -> Duration {
        let heard = self.known.get(node).map_or(Duration::ZERO, |peer| peer.heard);
        self.clock(now).saturating_sub(heard)
    }

    /// Whether every node that is there can be expected to hear what it is asked: it missed no announcement, its bus works, and
    /// this node hears.
    pub(crate) fn all_well(&self, now: Instant) -> bool {
        let clock = self.clock(now);
        let limit = self.interval() + self.every;
        let hears = now.saturating_duration_since(self.echoed) <= limit;
        hears
            && self.known.values().all(|peer| {
                clock.saturating_sub(peer.heard) <= limit && peer.said.as_ref().is_some_and(|said| said.ready)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(3);

    fn said(ready: bool) -> Announcement {
        Announcement {
            version: String::new(),
            region: String::new(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            ready,
            draining: false,
            figures: super::super::announcement::Figures::default(),
        }
    }

    fn node(id: &str) -> NodeId {
        NodeId::new(id).unwrap()
    }

    /// A node's life, in tenths of seconds.
    struct Life {
        peers: Peers,
        began: Instant,
    }

    impl Life {
        fn new() -> Self {
            let began = Instant::now();
            Self {
                peers: Peers::new(EVERY, began),
                began,
            }
        }

        fn at(&self, tenths: u64) -> Instant {
            self.began + Duration::from_millis(tenths * 100)
        }

        fn echo(&mut self, tenths: u64) {
            self.peers.echo(self.at(tenths));
        }

        fn heard(&mut self, id: &str, tenths: u64) -> Heard {
            self.peers.heard(&node(id), said(true), self.at(tenths))
        }

        fn gone(&mut self, tenths: u64) -> Vec<NodeId> {
            self.peers.take_silent(self.at(tenths))
        }
    }

    #[test]
    fn who_is_silent_for_three_announcements_has_gone() {
        let mut life = Life::new();
        assert_eq!(life.heard("a", 0), Heard::New);
        assert_eq!(life.heard("b", 0), Heard::New);
        for tenths in (30..=90).step_by(30) {
            life.echo(tenths - 5);
            assert_eq!(life.heard("b", tenths), Heard::Known);
        }
        assert_eq!(life.gone(89), []);
        assert_eq!(life.gone(90), [node("a")]);
        assert!(!life.peers.knows(&node("a")) && life.peers.knows(&node("b")));
        assert_eq!(life.heard("a", 95), Heard::New, "it is back");
        assert!(life.peers.leave(&node("b")) && !life.peers.leave(&node("b")));
    }

    #[test]
    fn a_silent_bus_makes_nobody_disappear() {
        let mut life = Life::new();
        life.heard("a", 0);
        life.echo(25);
        // Nothing at all for a minute, then first this node's own word.
        for tenths in 25..600 {
            assert_eq!(life.gone(tenths), [], "{tenths}");
        }
        assert!(!life.peers.all_well(life.at(200)));
        life.echo(600);
        assert_eq!(life.gone(600), []);
        for tenths in 600..633 {
            assert_eq!(life.gone(tenths), [], "{tenths}");
        }
        life.heard("a", 633);
        life.echo(630);
        assert_eq!(life.gone(640), []);
        // And who is silent after that goes.
        for tenths in (660..720).step_by(30) {
            life.echo(tenths);
        }
        life.echo(722);
        assert_eq!(life.gone(724), [node("a")]);
    }

    #[test]
    fn suspects_are_not_there_and_go_like_others() {
        let mut life = Life::new();
        life.peers.suspect(&node("a"), life.at(0));
        assert!(!life.peers.knows(&node("a")) && life.peers.live().next().is_none());
        assert!(
            !life.peers.all_well(life.at(1)),
            "it may be there, and is not heard"
        );
        for tenths in [30, 60, 90] {
            life.echo(tenths);
        }
        assert_eq!(life.gone(90), [node("a")]);
        life.peers.suspect(&node("b"), life.at(90));
        assert_eq!(life.heard("b", 91), Heard::New);
    }

    #[test]
    fn all_is_well_while_all_are_heard_and_hear() {
        let mut life = Life::new();
        assert!(life.peers.all_well(life.at(10)), "alone");
        life.heard("a", 10);
        assert!(life.peers.all_well(life.at(20)));
        life.peers.heard(&node("a"), said(false), life.at(20));
        assert!(!life.peers.all_well(life.at(20)), "it does not hear");
        life.heard("a", 25);
        for tenths in [30, 60, 90] {
            life.echo(tenths);
        }
        assert!(
            !life.peers.all_well(life.at(100)),
            "two announcements are missing"
        );
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut life = Life::new();
        for number in 0..MAX_PEERS {
            assert_eq!(life.heard(&format!("n{number}"), 0), Heard::New);
        }
        assert_eq!(life.heard("more", 0), Heard::Full);
        assert_eq!(life.heard("n1", 0), Heard::Known);
    }
}
