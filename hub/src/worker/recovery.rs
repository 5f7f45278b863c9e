//! Where a worker stands in a topic: what comes next, what is a repeat, what is missing. Decisions without I/O.

use std::{collections::VecDeque, sync::Arc};

use common::{
    bus::{Head, History},
    message::Position,
};

use crate::receive::Outgoing;

/// Messages that may wait for a confirmation or a healing. What comes beyond is read again from history.
const MAX_HELD: usize = 1024;

/// A worker's place in a topic.
#[derive(Debug)]
pub(crate) struct Progress {
    state: State,
    held: VecDeque<Arc<Outgoing>>,
    /// Something that should have been held was dropped: history is read once more before going live.
    spilled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The bus has not confirmed the subscription.
    Unconfirmed,
    /// All up to here has been handed on.
    Live(Head),
    /// Something after this is missing and being read.
    Healing(Head),
}

/// What to do with a message that arrived.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Hand it on.
    Deliver,
    /// It was handed on before, or waits for something.
    Nothing,
    /// Read history after this offset.
    Heal(u64),
    /// Messages may have been lost: tell the members, then hand it on.
    Resync,
}

/// What a comparison with the bus showed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Messages may have been lost: tell the members.
    pub(crate) resync: bool,
    /// Something is missing: read history after this offset.
    pub(crate) heal: Option<u64>,
}

/// What a healing brought.
#[derive(Debug, Default)]
pub(crate) struct Healed {
    /// The gap could not be closed: tell the members first.
    pub(crate) resync: bool,
    /// To hand on, in order.
    pub(crate) deliver: Vec<Arc<Outgoing>>,
    /// Still something missing: read history after this offset.
    pub(crate) again: Option<u64>,
}

impl Progress {
    pub(crate) fn unconfirmed() -> Self {
        Self {
            state: State::Unconfirmed,
            held: VecDeque::new(),
            spilled: false,
        }
    }

    pub(crate) fn confirmed(head: Head) -> Self {
        Self {
            state: State::Live(head),
            held: VecDeque::new(),
            spilled: false,
        }
    }

    /// Up to where all has been handed on; none before the confirmation.
    pub(crate) fn position(&self) -> Option<Position> {
        match &self.state {
            State::Unconfirmed => None,
            State::Live(head) | State::Healing(head) => Some(head.position()),
        }
    }

    /// Where it stands, if it waits for nothing.
    pub(crate) fn live(&self) -> Option<Head> {
        match self.state {
            State::Live(head) => Some(head),
            State::Unconfirmed | State::Healing(_) => None,
        }
    }

    /// Something was dropped on the way here. What waits reads history once more; what does not wait is compared.
    pub(crate) fn spill(&mut self) {
        self.spilled = !matches!(self.state, State::Live(_));
    }

    fn hold(&mut self, outgoing: &Arc<Outgoing>) {
        if self.held.len() < MAX_HELD {
            self.held.push_back(Arc::clone(outgoing));
        } else {
            self.spilled = true;
        }
    }

    /// A message arrived from the bus.
    pub(crate) fn arrived(&mut self, outgoing: &Arc<Outgoing>) -> Arrival {
        let Some(at) = outgoing.message.position else {
            // No history, no promise: it neither waits nor is missed.
            return if self.state == State::Unconfirmed {
                Arrival::Nothing
            } else {
                Arrival::Deliver
            };
        };
        let next = Head {
            epoch: at.epoch,
            offset: at.offset,
            id: Some(outgoing.message.header.id),
        };
        match self.state {
            State::Unconfirmed | State::Healing(_) => {
                self.hold(outgoing);
                Arrival::Nothing
            }
            State::Live(last) if at.epoch != last.epoch => {
                self.state = State::Live(next);
                Arrival::Resync
            }
            State::Live(last) if at.offset == last.offset + 1 => {
                self.state = State::Live(next);
                Arrival::Deliver
            }
            State::Live(last) if at.offset > last.offset => {
                self.state = State::Healing(last);
                self.hold(outgoing);
                Arrival::Heal(last.offset)
            }
            // The offset was given twice: what came first is lost.
            State::Live(last) if at.offset == last.offset && last.id != next.id => {
                self.state = State::Live(next);
                Arrival::Resync
            }
            State::Live(_) => Arrival::Nothing,
        }
    }

    /// The bus confirmed the subscription and told the topic's end. What was held is judged from there.
    pub(crate) fn confirm(&mut self, head: Head) -> Healed {
        if self.state == State::Unconfirmed {
            self.state = State::Live(head);
        }
        let mut healed = self.replay_held();
        self.read_spilled(&mut healed);
        healed
    }

    /// The bus was asked for the topic's end when this stood at `asked`; more may have arrived since, so only what was
    /// known then can have been lost.
    pub(crate) fn compare(&mut self, asked: Head, head: Head) -> Compared {
        let State::Live(last) = self.state else {
            return Compared::default();
        };
        if head.epoch != last.epoch {
            // Where the epoch has changed since, the answer is the older one.
            let resync = asked.epoch == last.epoch;
            if resync {
                self.state = State::Live(head);
            }
            return Compared { resync, heal: None };
        }
        let lost = head.offset < asked.offset || (head.offset == asked.offset && head.id != asked.id);
        if asked.epoch == head.epoch && lost {
            self.state = State::Healing(head);
            Compared {
                resync: true,
                heal: Some(head.offset),
            }
        } else if head.offset > last.offset {
            self.state = State::Healing(last);
            Compared {
                resync: false,
                heal: Some(last.offset),
            }
        } else {
            Compared::default()
        }
    }

    /// History after the last offset was read.
    pub(crate) fn heal(&mut self, history: &History) -> Healed {
        let State::Healing(mut last) = self.state else {
            return Healed::default();
        };
        let mut healed = Healed::default();
        if history.head.epoch != last.epoch || history.head.offset < last.offset {
            healed.resync = true;
            last = history.head;
        } else {
            for message in &history.messages {
                let Some(at) = message.position else { continue };
                if at.offset <= last.offset {
                    continue;
                }
                // A hole in history cannot be closed any more; what lies behind it is still handed on.
                healed.resync |= at.offset != last.offset + 1;
                last = Head {
                    epoch: at.epoch,
                    offset: at.offset,
                    id: Some(message.header.id),
                };
                healed.deliver.push(Arc::new(Outgoing::new(Arc::clone(message))));
            }
            if last.offset < history.head.offset {
                // The read was limited, or the tail is gone.
                if history.messages.is_empty() {
                    healed.resync = true;
                    last = history.head;
                } else {
                    healed.again = Some(last.offset);
                }
            }
        }
        if healed.again.is_some() {
            self.state = State::Healing(last);
            return healed;
        }
        self.state = State::Live(last);
        let held = self.replay_held();
        healed.resync |= held.resync;
        healed.deliver.extend(held.deliver);
        healed.again = held.again;
        self.read_spilled(&mut healed);
        healed
    }

    /// Before going live, what could not be held is read.
    fn read_spilled(&mut self, healed: &mut Healed) {
        if let State::Live(last) = self.state
            && std::mem::take(&mut self.spilled)
        {
            self.state = State::Healing(last);
            healed.again = Some(last.offset);
        }
    }

    /// A healing failed; the next message or head check tries again.
    pub(crate) fn give_up(&mut self) {
        if let State::Healing(last) = self.state {
            self.state = State::Live(last);
            self.held.clear();
        }
    }

    fn replay_held(&mut self) -> Healed {
        let mut healed = Healed::default();
        let held = std::mem::take(&mut self.held);
        for outgoing in held {
            match self.arrived(&outgoing) {
                Arrival::Deliver => healed.deliver.push(outgoing),
                Arrival::Nothing => {}
                Arrival::Heal(after) => healed.again = Some(after),
                Arrival::Resync => {
                    healed.resync = true;
                    healed.deliver.push(outgoing);
                }
            }
        }
        healed
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use common::{
        ids::MessageId,
        message::{FrameKind, Header, Message},
        topic::TopicKey,
    };

    use super::*;

    fn message(epoch: u64, offset: u64) -> Arc<Message> {
        let header = Header::new(MessageId::generate(), FrameKind::Message);
        let check = header.id.check();
        Arc::new(Message {
            key: TopicKey::everyone(),
            position: (offset > 0).then_some(Position { epoch, offset, check }),
            header,
            payload: Bytes::from_static(b"{}"),
        })
    }

    const HEAL_1: Compared = Compared {
        resync: false,
        heal: Some(1),
    };

    fn outgoing(message: &Arc<Message>) -> Arc<Outgoing> {
        Arc::new(Outgoing::new(Arc::clone(message)))
    }

    fn head(message: &Arc<Message>) -> Head {
        let at = message.position.unwrap();
        Head {
            epoch: at.epoch,
            offset: at.offset,
            id: Some(message.header.id),
        }
    }

    fn offsets(messages: &[Arc<Outgoing>]) -> Vec<u64> {
        messages
            .iter()
            .map(|message| message.message.position.unwrap().offset)
            .collect()
    }

    #[test]
    fn a_gap_is_read_and_handed_on_in_order() {
        let messages: Vec<_> = (1..=6).map(|offset| message(1, offset)).collect();
        let mut progress = Progress::confirmed(head(&messages[0]));
        assert!(matches!(
            progress.arrived(&outgoing(&messages[1])),
            Arrival::Deliver
        ));
        assert!(
            matches!(progress.arrived(&outgoing(&messages[1])), Arrival::Nothing),
            "a repeat"
        );
        assert!(matches!(
            progress.arrived(&outgoing(&messages[4])),
            Arrival::Heal(2)
        ));
        assert!(
            matches!(progress.arrived(&outgoing(&messages[5])), Arrival::Nothing),
            "held"
        );
        let history = History {
            head: head(&messages[4]),
            messages: messages[2..5].to_vec(),
        };
        let healed = progress.heal(&history);
        assert_eq!(offsets(&healed.deliver), [3, 4, 5, 6]);
        assert!(!healed.resync && healed.again.is_none());
        assert_eq!(progress.position().unwrap().offset, 6);
    }

    #[test]
    fn what_history_lost_is_a_resync() {
        let messages: Vec<_> = (1..=6).map(|offset| message(1, offset)).collect();
        let mut progress = Progress::confirmed(head(&messages[0]));
        assert!(matches!(
            progress.arrived(&outgoing(&messages[5])),
            Arrival::Heal(1)
        ));
        let healed = progress.heal(&History {
            head: head(&messages[5]),
            messages: messages[4..].to_vec(),
        });
        assert!(healed.resync);
        assert_eq!(offsets(&healed.deliver), [5, 6]);
        // Nothing left at all.
        let mut progress = Progress::confirmed(head(&messages[0]));
        assert_eq!(progress.compare(head(&messages[0]), head(&messages[3])), HEAL_1);
        let healed = progress.heal(&History {
            head: head(&messages[3]),
            messages: vec![],
        });
        assert!(healed.resync && healed.again.is_none());
        assert_eq!(progress.position().unwrap().offset, 4);
    }

    #[test]
    fn a_limited_read_goes_on() {
        let messages: Vec<_> = (1..=5).map(|offset| message(1, offset)).collect();
        let mut progress = Progress::confirmed(head(&messages[0]));
        assert_eq!(progress.compare(head(&messages[0]), head(&messages[4])), HEAL_1);
        let healed = progress.heal(&History {
            head: head(&messages[4]),
            messages: messages[1..3].to_vec(),
        });
        assert_eq!((offsets(&healed.deliver), healed.again), (vec![2, 3], Some(3)));
        let healed = progress.heal(&History {
            head: head(&messages[4]),
            messages: messages[3..].to_vec(),
        });
        assert_eq!(
            (offsets(&healed.deliver), healed.again, healed.resync),
            (vec![4, 5], None, false)
        );
    }

    #[test]
    fn offsets_given_twice_and_new_epochs_are_noticed() {
        let first = message(1, 3);
        let second = message(1, 3);
        let mut progress = Progress::confirmed(head(&first));
        assert!(matches!(progress.arrived(&outgoing(&second)), Arrival::Resync));
        assert!(matches!(
            progress.arrived(&outgoing(&message(2, 1))),
            Arrival::Resync
        ));
        assert_eq!(progress.position().unwrap().epoch, 2);
        let mut progress = Progress::confirmed(head(&first));
        assert_eq!(
            progress.compare(head(&first), head(&second)),
            Compared {
                resync: true,
                heal: Some(3)
            }
        );
        let mut progress = Progress::confirmed(head(&first));
        let lower = Head {
            offset: 2,
            ..head(&first)
        };
        assert_eq!(
            progress.compare(head(&first), lower),
            Compared {
                resync: true,
                heal: Some(2)
            }
        );
        assert_eq!(
            progress.compare(head(&first), lower),
            Compared::default(),
            "it is being healed"
        );
        let mut progress = Progress::confirmed(head(&first));
        assert_eq!(
            progress.compare(head(&first), Head { epoch: 2, ..lower }),
            Compared {
                resync: true,
                heal: None
            }
        );
    }

    #[test]
    fn an_answer_that_is_older_than_what_arrived_since_is_no_loss() {
        let messages: Vec<_> = (1..=3).map(|offset| message(1, offset)).collect();
        let mut progress = Progress::confirmed(head(&messages[0]));
        let asked = progress.live().unwrap();
        for message in &messages[1..] {
            assert!(matches!(progress.arrived(&outgoing(message)), Arrival::Deliver));
        }
        assert_eq!(progress.compare(asked, head(&messages[1])), Compared::default());
        assert_eq!(progress.position().unwrap().offset, 3);
        let newer = message(2, 1);
        assert!(matches!(progress.arrived(&outgoing(&newer)), Arrival::Resync));
        assert_eq!(
            progress.compare(asked, head(&messages[2])),
            Compared::default(),
            "from before the epoch's end"
        );
        // Asked in the old epoch, answered in the new one, whose offsets are not those of the old.
        let asked = Head { offset: 9, ..asked };
        assert_eq!(progress.compare(asked, head(&newer)), Compared::default());
    }

    #[test]
    fn what_could_not_be_held_is_read_before_going_live() {
        let messages: Vec<_> = (1..=5).map(|offset| message(1, offset)).collect();
        let mut progress = Progress::unconfirmed();
        assert!(matches!(
            progress.arrived(&outgoing(&messages[1])),
            Arrival::Nothing
        ));
        // The third was dropped on the way, and nothing comes behind it.
        progress.spill();
        let healed = progress.confirm(head(&messages[0]));
        assert_eq!((offsets(&healed.deliver), healed.again), (vec![2], Some(2)));
        let healed = progress.heal(&History {
            head: head(&messages[2]),
            messages: vec![Arc::clone(&messages[2])],
        });
        assert_eq!((offsets(&healed.deliver), healed.again), (vec![3], None));
        // While healing.
        assert!(matches!(
            progress.arrived(&outgoing(&messages[4])),
            Arrival::Heal(3)
        ));
        progress.spill();
        let healed = progress.heal(&History {
            head: head(&messages[4]),
            messages: messages[3..].to_vec(),
        });
        assert_eq!((offsets(&healed.deliver), healed.again), (vec![4, 5], Some(5)));
        let healed = progress.heal(&History {
            head: head(&messages[4]),
            messages: vec![],
        });
        assert!(healed.again.is_none() && !healed.resync);
        assert!(progress.live().is_some());
    }

    #[test]
    fn what_comes_before_the_confirmation_waits() {
        let messages: Vec<_> = (4..=6).map(|offset| message(1, offset)).collect();
        let mut progress = Progress::unconfirmed();
        for message in &messages {
            assert!(matches!(progress.arrived(&outgoing(message)), Arrival::Nothing));
        }
        let healed = progress.confirm(head(&messages[0]));
        assert_eq!(offsets(&healed.deliver), [5, 6]);
        assert_eq!(progress.position().unwrap().offset, 6);
    }
}
