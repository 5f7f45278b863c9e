//! Gaps of the worker: what was lost on the way here is read from history before anything behind it is handed on, and topics
//! are compared with the bus.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    bus::{BusError, Head, History},
    ids::MessageId,
    message::{FrameKind, Header, Message, Priority},
    protocol::ServerFrame,
    topic::TopicKey,
};

use super::{
    Comparison, Control, Worker,
    patience::{AGAIN, patiently},
    places::PLACES,
    recovery::{Healed, Lost},
    replay::READ,
};
use crate::{receive::Outgoing, ws};

/// Messages that one read of history asks for to heal a topic with many members: with those that were held meanwhile they
/// find places.
const HEAL: usize = PLACES / 2;

/// Topics of one comparison with the bus.
const COMPARE: usize = 1000;

impl Worker {
    /// Reads what is missing after an offset. Of a large topic less at a time: it is put before all of its members.
    pub(super) fn read_missing(&self, key: &TopicKey, after: u64) {
        let bus = self.shared.bus.clone();
        let key = key.clone();
        let large = self.index.find(&key).is_some_and(|number| self.is_large(number));
        let limit = if large { HEAL } else { READ };
        self.ask(async move {
            let history = patiently(|| bus.history(&key, after, limit)).await;
            Control::Healed(key, history)
        });
    }

    /// Has the bus begin a new epoch, as it has lost what stood at `last`.
    fn renew(&self, key: &TopicKey, last: Head) {
        let bus = self.shared.bus.clone();
        let key = key.clone();
        self.ask(async move {
            let head = patiently(|| bus.renew(&key, last)).await;
            Control::Renewed(key, head)
        });
    }

    /// The bus was asked for a new epoch.
    pub(super) fn renewed(&mut self, key: &TopicKey, head: Result<Head, BusError>) {
        let Some(number) = self.index.find(key) else {
            return;
        };
        let Some(topic) = self.index.get_mut(number) else {
            return;
        };
        match head {
            Ok(head) => {
                let healed = topic.progress.renewed(head);
                self.hand_on(number, key, healed);
            }
            Err(error) => {
                tracing::warn!(%error, topic = %key, "a new epoch cannot be begun now");
                topic.progress.give_up();
            }
        }
    }

    /// What was missing has been read.
    pub(super) fn healed(&mut self, key: &TopicKey, history: Result<History, BusError>) {
        match history {
            Ok(history) => {
                self.healings.push_back((key.clone(), history));
                self.go_on_healing();
            }
            Err(error) => {
                tracing::warn!(%error, topic = %key, "a gap cannot be read now");
                let topic = self.index.find(key).and_then(|number| self.index.get_mut(number));
                if let Some(topic) = topic {
                    topic.progress.give_up();
                }
            }
        }
    }

    /// Hands on what was read, as soon as there are places for it; until then the topic counts as being healed.
    pub(super) fn go_on_healing(&mut self) {
        while let Some((key, history)) = self.healings.pop_front() {
            let Some(number) = self.index.find(&key) else {
                continue;
            };
            let Some(topic) = self.index.get_mut(number) else {
                continue;
            };
            let most = history.messages.len() + topic.progress.waiting();
            // Were it too much for all places, waiting would not help.
            if self.fanout.is_active() && !self.has_room(number, most.min(PLACES)) {
                self.healings.push_front((key, history));
                return;
            }
            let Some(topic) = self.index.get_mut(number) else {
                continue;
            };
            let healed = topic.progress.heal(&history);
            self.shared.metrics.healed.inc();
            self.hand_on(number, &key, healed);
        }
    }

    /// Hands on what a healing or a confirmation brought.
    pub(super) fn hand_on(&mut self, number: u32, key: &TopicKey, healed: Healed) {
        for outgoing in healed.ended {
            self.put_before(number, &outgoing);
        }
        if let Some(lost) = healed.resync {
            self.resync(number, lost);
        }
        for outgoing in healed.deliver {
            self.put_before(number, &outgoing);
        }
        if let Some(after) = healed.again {
            self.read_missing(key, after);
        }
        if let Some(last) = healed.renew {
            self.renew(key, last);
        }
    }

    /// Tells all members of a topic that messages may have been lost.
    pub(super) fn resync(&mut self, number: u32, lost: Lost) {
        let Some(topic) = self.index.get(number) else {
            return;
        };
        let (members, reason) = (topic.members.len(), lost.reason());
        tracing::warn!(topic = %topic.key, members, reason, "sessions are told to resync");
        self.shared.metrics.resynced(reason);
        super::trace::resync(&self.shared, &topic.key);
        let frame = ServerFrame::Resync {
            topics: vec![topic.key.public_name()],
        }
        .to_json();
        let message = Message {
            key: topic.key.clone(),
            position: None,
            // Of this kind, so that only sessions get it that are told of changes.
            header: Header {
                priority: Priority::Critical,
                ..Header::new(MessageId::generate(), FrameKind::Changed)
            },
            payload: Bytes::new(),
        };
        let frame = ws::encode_text(&[frame]);
        let message = Arc::new(message);
        self.put_before(number, &Arc::new(Outgoing::framed(message, frame)));
    }

    /// Compares a share of the topics with the bus.
    pub(super) fn compare_share(&self, part: usize, parts: usize) {
        self.compare(&self.index.live_share(part, parts), false);
    }

    /// Something was dropped on the way here: all topics are compared.
    pub(super) fn compare_all(&mut self) {
        if self.sweep.outstanding > 0 {
            self.sweep.again = true;
            return;
        }
        self.index.spill();
        self.sweep.outstanding = self.compare(&self.index.live_share(0, 1), true);
    }

    /// Asks for the ends of topics; how many answers will come.
    fn compare(&self, topics: &[(TopicKey, Head)], sweep: bool) -> usize {
        let parts = topics.chunks(COMPARE);
        let count = parts.len();
        for asked in parts.map(<[_]>::to_vec) {
            let bus = self.shared.bus.clone();
            let controls = self.controls.clone();
            self.ask(async move {
                let mut asked = asked;
                let mut tries = 0;
                loop {
                    let keys: Vec<TopicKey> = asked.iter().map(|(key, _)| key.clone()).collect();
                    let heads = bus.heads(&keys).await;
                    let left: Vec<(TopicKey, Head)> = asked
                        .iter()
                        .zip(&heads)
                        .filter(|(_, head)| head.is_none())
                        .map(|(asked, _)| asked.clone())
                        .collect();
                    // Of a share, the next comparison comes. After a loss nothing else may tell what is missing, so what
                    // cannot be known now is asked until it is; what is known is not kept waiting for it.
                    let last = left.is_empty() || !sweep || controls.is_closed();
                    let comparison = Comparison {
                        asked,
                        heads,
                        // The sweep is done with the first answer: the next one is not kept waiting for a server that is away.
                        sweep: sweep && tries == 0,
                    };
                    if last {
                        return Control::Heads(comparison);
                    }
                    // A worker that has ended needs no answer.
                    drop(controls.send(Control::Heads(comparison)).await);
                    asked = left;
                    tries += 1;
                    tokio::time::sleep(AGAIN.delay(tries, fastrand::f64())).await;
                }
            });
        }
        count
    }

    pub(super) fn compared(&mut self, comparison: &Comparison) {
        for ((key, asked), head) in comparison.asked.iter().zip(&comparison.heads) {
            let Some(head) = head else { continue };
            let Some(number) = self.index.find(key) else {
                continue;
            };
            let Some(topic) = self.index.get_mut(number) else {
                continue;
            };
            let compared = topic.progress.compare(*asked, *head);
            if let Some(lost) = compared.resync {
                self.resync(number, lost);
            }
            if let Some(after) = compared.heal {
                self.read_missing(key, after);
            }
            if let Some(last) = compared.renew {
                self.renew(key, last);
            }
        }
        if comparison.sweep {
            self.sweep.outstanding = self.sweep.outstanding.saturating_sub(1);
            if self.sweep.outstanding == 0 && std::mem::take(&mut self.sweep.again) {
                self.compare_all();
            }
        }
    }

    /// The bus is ahead of this worker in a topic: reads what is missing, unless that is being done.
    pub(super) fn catch_up(&mut self, number: u32, head: Head) {
        let Some(topic) = self.index.get_mut(number) else {
            return;
        };
        let Some(last) = topic.progress.live() else { return };
        if let Some(after) = topic.progress.compare(last, head).heal {
            let key = topic.key.clone();
            self.read_missing(&key, after);
        }
    }
}
