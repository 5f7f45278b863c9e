//! What waits for a writer.

use std::fmt;

use common::ids::DeliveryId;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    model::{Accepted, IncomingEvent, Micros, NewNotification, ReaderKeys, Settlement},
    store::{
        AttemptStart, StoreError,
        transaction::{Pending, Tx},
    },
};

/// An operation with its input, kept until it is committed, and who waits for it.
pub(in crate::store) struct Slot<I, O> {
    pub(super) input: I,
    pub(super) output: Option<O>,
    reply: oneshot::Sender<Result<O, StoreError>>,
}

impl<I, O> Slot<I, O> {
    pub(in crate::store) fn new(input: I) -> (Self, oneshot::Receiver<Result<O, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (
            Self {
                input,
                output: None,
                reply,
            },
            answer,
        )
    }

    fn finish(self, result: Result<(), StoreError>) {
        let answer = result.and_then(|()| self.output.ok_or_else(StoreError::closed));
        // Who no longer waits has lost only the answer.
        drop(self.reply.send(answer));
    }
}

/// An operation that is done by itself inside the group's transaction.
pub(in crate::store) trait Single: Send {
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> Pending<'a, ()>;
    fn finish(self: Box<Self>, result: Result<(), StoreError>);
}

pub(in crate::store) struct Call<I, O, F> {
    pub(in crate::store) slot: Slot<I, O>,
    pub(in crate::store) act: F,
}

impl<I, O, F> Single for Call<I, O, F>
where
    I: Send + Sync,
    O: Send,
    F: for<'a> Fn(&'a I, &'a mut Tx<'_>) -> Pending<'a, O> + Send + Sync,
{
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> Pending<'a, ()> {
        Box::pin(async move {
            self.slot.output = Some((self.act)(&self.slot.input, tx).await?);
            Ok(())
        })
    }

    fn finish(self: Box<Self>, result: Result<(), StoreError>) {
        self.slot.finish(result);
    }
}

/// What waits for the writer. Kinds that come in numbers are done many at a time.
pub(in crate::store) enum Work {
    Settle(Slot<Vec<Settlement>, Vec<bool>>),
    Extend(Slot<Vec<(DeliveryId, i64, Micros)>, Vec<bool>>),
    Begin(Slot<Vec<AttemptStart>, Vec<bool>>),
    Accept(Slot<Vec<NewNotification>, Vec<Accepted>>),
    /// Events with their notifications; whether each was new.
    TakeIn(Slot<Vec<IncomingEvent>, Vec<bool>>),
    Touch(Slot<Vec<ReaderKeys>, Vec<()>>),
    /// Claims: as [`Work::Other`], but many of them can share a transaction with each other in any database, as they pass
    /// by what others have locked.
    Claim(Box<dyn Single>),
    Other(Box<dyn Single>),
    /// Outside any transaction.
    Limit(Option<u64>, oneshot::Sender<Result<(), StoreError>>),
    Close,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun())
    }
}

/// The rows that a notification adds, more or less.
fn rows_of(new: &NewNotification) -> usize {
    1 + new.deliveries.len() + new.inbox.len()
}

impl Work {
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Settle(_) => "Settle",
            Self::Extend(_) => "Extend",
            Self::Begin(_) => "Begin",
            Self::Accept(_) => "Accept",
            Self::TakeIn(_) => "TakeIn",
            Self::Touch(_) => "Touch",
            Self::Claim(_) => "Claim",
            Self::Other(_) => "Other",
            Self::Limit(..) => "Limit",
            Self::Close => "Close",
        }
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Settle(slot) => slot.input.len(),
            Self::Extend(slot) => slot.input.len(),
            Self::Begin(slot) => slot.input.len(),
            Self::Accept(slot) => slot.input.iter().map(rows_of).sum(),
            Self::TakeIn(slot) => {
                let notifications = slot.input.iter().flat_map(|event| &event.notifications);
                slot.input.len() + notifications.map(rows_of).sum::<usize>()
            }
            Self::Touch(slot) => slot.input.iter().map(|reader| reader.keys.len()).sum(),
            Self::Claim(_) | Self::Other(_) => 8,
            Self::Limit(..) | Self::Close => 0,
        }
    }

    /// The ids of the notifications that it has stored, where its transaction was committed.
    pub(super) fn stored(&self) -> Vec<Uuid> {
        match self {
            Self::Accept(slot) => {
                let answered = slot.input.iter().zip(slot.output.iter().flatten());
                let new = answered.filter(|(_, answer)| **answer == Accepted::New);
                new.map(|(new, _)| new.id.0).collect()
            }
            Self::TakeIn(slot) => {
                let answered = slot.input.iter().zip(slot.output.iter().flatten());
                let new = answered.filter(|(_, is_new)| **is_new);
                new.flat_map(|(event, _)| event.notifications.iter().map(|new| new.id.0))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn is_outside(&self) -> bool {
        matches!(self, Self::Limit(..) | Self::Close)
    }

    /// Whether the queue's writers do it.
    pub(in crate::store) fn is_of_queue(&self) -> bool {
        matches!(
            self,
            Self::Settle(_) | Self::Extend(_) | Self::Begin(_) | Self::Claim(_)
        )
    }

    /// Whether it can share a transaction with another where other writers work at the same time. Operations of one kind
    /// take their locks in one order; those of several kinds would not, and neither would what a reader marks.
    pub(super) fn mixes_with(&self, other: &Self) -> bool {
        !matches!(self, Self::Other(_)) && std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    pub(super) fn finish(self, result: Result<(), StoreError>) {
        match self {
            Self::Settle(slot) => slot.finish(result),
            Self::Extend(slot) => slot.finish(result),
            Self::Begin(slot) => slot.finish(result),
            Self::Accept(slot) => slot.finish(result),
            Self::TakeIn(slot) => slot.finish(result),
            Self::Touch(slot) => slot.finish(result),
            Self::Claim(single) | Self::Other(single) => single.finish(result),
            Self::Limit(_, reply) => drop(reply.send(result)),
            Self::Close => {}
        }
    }
}
