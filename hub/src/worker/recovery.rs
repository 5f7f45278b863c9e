//! Where a worker stands in a topic: what comes next, what is a repeat, what is missing. Decisions without I/O.

use std::{collections::VecDeque, sync::Arc};

use common::{
    bus::{Head, History},
    ids::MessageId,
    message::{Message, Position},
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

/// Why the members of a topic are told to read their inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The topic's epoch is another.
    NewEpoch,
    /// The bus has lost the end of the topic, and gives its offsets again.
    Tail,
    /// History does not go back so far.
    Trimmed,
}

impl Lost {
    /// As it stands in logs and metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NewEpoch => "new_epoch",
            Self::Tail => "lost_tail",
            Self::Trimmed => "trimmed",
        }
    }
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
    pub(crate) resync: Option<Lost>,
    /// Something is missing: read history after this offset.
    pub(crate) heal: Option<u64>,
    /// The bus has lost what stood here: have a new epoch begun.
    pub(crate) renew: Option<Head>,
}

/// What a healing brought. In this order it is carried out.
#[derive(Debug, Default)]
pub(crate) struct Healed {
    /// Of an epoch that has ended, to hand on before the members are told.
    pub(crate) ended: Vec<Arc<Outgoing>>,
    /// The gap could not be closed: tell the members first.
    pub(crate) resync: Option<Lost>,
    /// To hand on, in order.
    pub(crate) deliver: Vec<Arc<Outgoing>>,
    /// Still something missing: read history after this offset.
    pub(crate) again: Option<u64>,
    /// The bus has lost what stood here: have a new epoch begun.
    pub(crate) renew: Option<Head>,
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
            State::Live(last) if at.offset == last.offset && last.id == next.id => Arrival::Nothing,
            // A gap; or a repeat, unless the bus has lost its end and gives the offset to another message: history tells.
            State::Live(last) => {
                self.set(State::Healing(last));
                self.hold(outgoing);
                Arrival::Heal(before(last.offset.min(at.offset)))
            }
        }
    }

    /// The bus confirmed the subscription and told the topic's end. What was held is judged from there.
    pub(crate) fn confirm(&mut self, head: Head) -> Healed {
        if self.state() == State::Unconfirmed {
            self.set(State::Live(head));
        }
        let mut healed = Healed::default();
        // Who joins begins at the head; what stands before it is nobody's.
        self.replay_held(head, &mut healed);
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
            return Compared {
                resync: resync.then_some(Lost::NewEpoch),
                ..Compared::default()
            };
        }
        let lost = head.offset < asked.offset || (head.offset == asked.offset && head.id != asked.id);
        if asked.epoch == head.epoch && lost {
            self.set(State::Healing(last));
            Compared {
                renew: Some(last),
                ..Compared::default()
            }
        } else if head.offset > last.offset {
            self.set(State::Healing(last));
            Compared {
                heal: Some(before(last.offset)),
                ..Compared::default()
            }
        } else {
            Compared::default()
        }
    }

    /// History was read, from the last offset or one before it on.
    pub(crate) fn heal(&mut self, history: &History) -> Healed {
        let State::Healing(last) = self.state() else {
            return Healed::default();
        };
        let mut healed = Healed::default();
        if history.head.epoch != last.epoch {
            healed.resync = Some(Lost::NewEpoch);
            self.go_live(history.head, &mut healed);
            return healed;
        }
        if history.head.offset < last.offset || self.is_contradicted(last, history) {
            healed.renew = Some(last);
            return healed;
        }
        let reached = history.messages.last().map(|message| offset(message));
        if let Some(reached) = reached.filter(|reached| *reached < last.offset) {
            // The read was limited, and has not come to what is missing.
            healed.again = Some(reached);
            return healed;
        }
        let mut at = last;
        // A hole in history cannot be closed any more, nor can a message be compared that is not there; what lies behind it is
        // still handed on. In a last-value topic newer values took the place of what is not there.
        let superseded = history.superseded_after.is_some_and(|lost| lost <= last.offset);
        let stands = |message: &Arc<Message>| offset(message) == last.offset;
        let told = superseded || last.offset == 0 || history.messages.iter().any(stands);
        let mut trimmed = !told && history.head.offset > last.offset;
        for message in history
            .messages
            .iter()
            .filter(|message| offset(message) > last.offset)
        {
            trimmed |= offset(message) != at.offset + 1 && !superseded;
            at = head_at(message).unwrap_or(at);
            healed.deliver.push(Arc::new(Outgoing::new(Arc::clone(message))));
        }
        if at.offset < history.head.offset {
            let from_last = history
                .messages
                .first()
                .is_none_or(|first| offset(first) >= last.offset);
            if at.offset == last.offset && from_last {
                // All behind it has gone.
                trimmed = true;
                at = history.head;
            } else {
                // The read was limited.
                healed.resync = trimmed.then_some(Lost::Trimmed);
                self.set(State::Healing(at));
                healed.again = Some(before(at.offset));
                return healed;
            }
        }
        healed.resync = trimmed.then_some(Lost::Trimmed);
        self.go_live(at, &mut healed);
        healed
    }

    /// Whether history has other messages than those that came.
    fn is_contradicted(&self, last: Head, history: &History) -> bool {
        if history.head.offset == last.offset && history.head.id != last.id {
            return true;
        }
        let differs = |at: u64, id: Option<MessageId>| {
            let found = history
                .messages
                .binary_search_by_key(&at, |message| offset(message));
            found.is_ok_and(|place| Some(history.messages[place].header.id) != id)
        };
        let held = self.held.iter().flat_map(|held| &held.messages);
        let mut repeats = held.filter_map(|outgoing| head_at(&outgoing.message));
        differs(last.offset, last.id)
            || repeats
                .any(|at| at.epoch == last.epoch && at.offset <= last.offset && differs(at.offset, at.id))
    }

    /// The bus was asked for a new epoch, and this is where the topic stands now.
    pub(crate) fn renewed(&mut self, head: Head) -> Healed {
        let State::Healing(last) = self.state() else {
            return Healed::default();
        };
        let mut healed = Healed::default();
        if head.epoch == last.epoch {
            // Nothing is lost after all: whoever said so spoke of another time, and so does what came with the offsets of others.
            if let Some(held) = &mut self.held {
                held.messages
                    .retain(|outgoing| head_at(&outgoing.message).is_none_or(|at| at.offset > last.offset));
            }
            healed.again = Some(before(last.offset));
            return healed;
        }
        // What came in the old epoch is in no history any more.
        if let Some(held) = &mut self.held {
            let ended = |outgoing: &Arc<Outgoing>| {
                head_at(&outgoing.message).is_some_and(|at| at.epoch == last.epoch)
            };
            let (old, new): (Vec<_>, Vec<_>) =
                std::mem::take(&mut held.messages).into_iter().partition(ended);
            held.messages = new.into();
            healed.ended = old;
            // Before the last offset, repeats of what was handed on cannot be told from what took their places; the resync
            // stands for both.
            let follows = |at: Head| at.offset >= last.offset && at.id != last.id;
            healed
                .ended
                .retain(|outgoing| head_at(&outgoing.message).is_some_and(follows));
        }
        healed.resync = Some(Lost::Tail);
        self.go_live(head, &mut healed);
        healed
    }

    /// Everything up to `at` has been handed on or told.
    fn go_live(&mut self, at: Head, healed: &mut Healed) {
        self.set(State::Live(at));
        self.replay_held(at, healed);
        self.read_spilled(healed);
    }

    /// Before going live, what could not be held is read.
    fn read_spilled(&mut self, healed: &mut Healed) {
        if let State::Live(last) = self.state()
            && std::mem::take(&mut self.spilled)
        {
            self.set(State::Healing(last));
            healed.again = Some(before(last.offset));
        }
    }

    /// A healing failed; the next message or head check tries again.
    pub(crate) fn give_up(&mut self) {
        if let State::Healing(last) = self.state() {
            self.set(State::Live(last));
            self.held = None;
        }
    }

    /// Hands on what was held, but for repeats of what stands at `from` or before it.
    fn replay_held(&mut self, from: Head, healed: &mut Healed) {
        let held = self.held.take().unwrap_or_default();
        for outgoing in held.messages {
            let repeat = |at: Head| at.epoch == from.epoch && at.offset <= from.offset;
            if head_at(&outgoing.message).is_some_and(repeat) {
                continue;
            }
            match self.arrived(&outgoing) {
                Arrival::Deliver => healed.deliver.push(outgoing),
                Arrival::Nothing => {}
                Arrival::Heal(after) => healed.again = Some(after),
                Arrival::Resync => {
                    healed.resync = Some(Lost::NewEpoch);
                    healed.deliver.push(outgoing);
                }
            }
        }
    }
}

/// The offset to read after, so that what stands at an offset is read as well and can be compared.
fn before(offset: u64) -> u64 {
    offset.saturating_sub(1)
}

fn offset(message: &Message) -> u64 {
    message.position.map_or(0, |position| position.offset)
}

/// Where a topic stands with this message.
fn head_at(message: &Message) -> Option<Head> {
    let at = message.position?;
    Some(Head {
        epoch: at.epoch,
        offset: at.offset,
        id: Some(message.header.id),
    })
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
