//! Where a worker stands in a topic: what comes next, what is a repeat, what is missing. Decisions without I/O.

use std::{collections::VecDeque, sync::Arc};

use common::{
    bus::{Head, History},
    ids::MessageId,
    message::Position,
};

use crate::receive::Outgoing;

/// Messages that may wait for a confirmation or a healing. What comes beyond is read again from history.
const MAX_HELD: usize = 32;

/// A worker's place in a topic. There is one for each user, so it is laid out to be small: see [`Progress::state`].
#[derive(Debug)]
pub(crate) struct Progress {
    epoch: u64,
    offset: u64,
    held: Option<Box<Held>>,
    id: Option<MessageId>,
    stage: Stage,
    /// Something that should have been held was dropped: history is read once more before going live.
    spilled: bool,
}

/// Messages that wait for a confirmation or a healing.
#[derive(Debug, Default)]
struct Held {
    messages: VecDeque<Arc<Outgoing>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unconfirmed,
    Live,
    Healing,
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
            epoch: 0,
            offset: 0,
            held: None,
            id: None,
            stage: Stage::Unconfirmed,
            spilled: false,
        }
    }

    pub(crate) fn confirmed(head: Head) -> Self {
        let mut progress = Self::unconfirmed();
        progress.set(State::Live(head));
        progress
    }

    fn state(&self) -> State {
        let head = Head {
            epoch: self.epoch,
            offset: self.offset,
            id: self.id,
        };
        match self.stage {
            Stage::Unconfirmed => State::Unconfirmed,
            Stage::Live => State::Live(head),
            Stage::Healing => State::Healing(head),
        }
    }

    fn set(&mut self, state: State) {
        let (stage, head) = match state {
            State::Unconfirmed => {
                self.stage = Stage::Unconfirmed;
                return;
            }
            State::Live(head) => (Stage::Live, head),
            State::Healing(head) => (Stage::Healing, head),
        };
        self.stage = stage;
        self.epoch = head.epoch;
        self.offset = head.offset;
        self.id = head.id;
    }

    /// Up to where all has been handed on; none before the confirmation.
    pub(crate) fn position(&self) -> Option<Position> {
        match self.state() {
            State::Unconfirmed => None,
            State::Live(head) | State::Healing(head) => Some(head.position()),
        }
    }

    /// Where it stands, if it waits for nothing.
    pub(crate) fn live(&self) -> Option<Head> {
        match self.state() {
            State::Live(head) => Some(head),
            State::Unconfirmed | State::Healing(_) => None,
        }
    }

    /// Something was dropped on the way here. What waits reads history once more; what does not wait is compared.
    pub(crate) fn spill(&mut self) {
        self.spilled = !matches!(self.state(), State::Live(_));
    }

    /// Messages that wait for a confirmation or a healing.
    pub(crate) fn waiting(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.messages.len())
    }

    fn hold(&mut self, outgoing: &Arc<Outgoing>) {
        let held = &mut self.held.get_or_insert_with(Box::default).messages;
        if held.len() < MAX_HELD {
            held.push_back(Arc::clone(outgoing));
        } else {
            self.spilled = true;
        }
    }

    /// A message arrived from the bus.
    pub(crate) fn arrived(&mut self, outgoing: &Arc<Outgoing>) -> Arrival {
        let Some(at) = outgoing.message.position else {
            // No history, no promise: it neither waits nor is missed.
            return if self.state() == State::Unconfirmed {
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
        match self.state() {
            State::Unconfirmed | State::Healing(_) => {
                self.hold(outgoing);
                Arrival::Nothing
            }
            State::Live(last) if at.epoch != last.epoch => {
                self.set(State::Live(next));
                Arrival::Resync
            }
            State::Live(last) if at.offset == last.offset + 1 => {
                self.set(State::Live(next));
                Arrival::Deliver
            }
            State::Live(last) if at.offset > last.offset => {
                self.set(State::Healing(last));
                self.hold(outgoing);
                Arrival::Heal(last.offset)
            }
            // The offset was given twice: what came first is lost.
            State::Live(last) if at.offset == last.offset && last.id != next.id => {
                self.set(State::Live(next));
                Arrival::Resync
            }
            State::Live(_) => Arrival::Nothing,
        }
    }

    /// The bus confirmed the subscription and told the topic's end. What was held is judged from there.
    pub(crate) fn confirm(&mut self, head: Head) -> Healed {
        if self.state() == State::Unconfirmed {
            self.set(State::Live(head));
        }
        let mut healed = self.replay_held();
        self.read_spilled(&mut healed);
        healed
    }

    /// The bus was asked for the topic's end when this stood at `asked`; more may have arrived since, so only what was
    /// known then can have been lost.
    pub(crate) fn compare(&mut self, asked: Head, head: Head) -> Compared {
        let State::Live(last) = self.state() else {
            return Compared::default();
        };
        if head.epoch != last.epoch {
            // Where the epoch has changed since, the answer is the older one.
            let resync = asked.epoch == last.epoch;
            if resync {
                self.set(State::Live(head));
            }
            return Compared { resync, heal: None };
        }
        let lost = head.offset < asked.offset || (head.offset == asked.offset && head.id != asked.id);
        if asked.epoch == head.epoch && lost {
            self.set(State::Healing(head));
            Compared {
                resync: true,
                heal: Some(head.offset),
            }
        } else if head.offset > last.offset {
            self.set(State::Healing(last));
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
        let State::Healing(mut last) = self.state() else {
            return Healed::default();
        };
        let mut healed = Healed::default();
        if history.head.epoch != last.epoch || history.head.offset < last.offset {
            healed.resync = true;
            last = history.head;
        } else {
            let superseded = history.superseded_after.is_some_and(|lost| lost <= last.offset);
            for message in &history.messages {
                let Some(at) = message.position else { continue };
                if at.offset <= last.offset {
                    continue;
                }
                // A hole in history cannot be closed any more; what lies behind it is still handed on. In a last-value
                // topic newer values took the place of what is not there.
                healed.resync |= at.offset != last.offset + 1 && !superseded;
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
            self.set(State::Healing(last));
            return healed;
        }
        self.set(State::Live(last));
        let held = self.replay_held();
        healed.resync |= held.resync;
        healed.deliver.extend(held.deliver);
        healed.again = held.again;
        self.read_spilled(&mut healed);
        healed
    }

    /// Before going live, what could not be held is read.
    fn read_spilled(&mut self, healed: &mut Healed) {
        if let State::Live(last) = self.state()
            && std::mem::take(&mut self.spilled)
        {
            self.set(State::Healing(last));
            healed.again = Some(last.offset);
        }
    }

    /// A healing failed; the next message or head check tries again.
    pub(crate) fn give_up(&mut self) {
        if let State::Healing(last) = self.state() {
            self.set(State::Live(last));
            self.held = None;
        }
    }

    fn replay_held(&mut self) -> Healed {
        let mut healed = Healed::default();
        let held = self.held.take().unwrap_or_default();
        for outgoing in held.messages {
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
#[path = "recovery_tests.rs"]
mod tests;
