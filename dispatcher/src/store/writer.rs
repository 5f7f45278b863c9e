//! The one writer: takes all operations that wait, does them in one transaction, and answers after the commit.
//!
//! A group that fails is rolled back and its operations are done again one by one, each in a transaction of its own, so
//! that nobody fails for another's fault.

use std::{collections::VecDeque, fmt, sync::Arc};

use common::{ids::DeliveryId, topic::TopicKey};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::{
    AttemptStart, StoreConfig, StoreError, accept, queue,
    sqlite::connect,
    transaction::{Pending, Tx},
    watch::Watchers,
};
use crate::model::{Accepted, Micros, NewNotification, Settlement};

/// Rows of one transaction, more or less: what waits behind it waits for so much at the most.
const GROUP_ROWS: usize = 2000;

/// An operation with its input, kept until it is committed, and who waits for it.
pub(super) struct Slot<I, O> {
    input: I,
    output: Option<O>,
    reply: oneshot::Sender<Result<O, StoreError>>,
}

impl<I, O> Slot<I, O> {
    pub(super) fn new(input: I) -> (Self, oneshot::Receiver<Result<O, StoreError>>) {
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
pub(super) trait Single: Send {
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> Pending<'a, ()>;
    fn finish(self: Box<Self>, result: Result<(), StoreError>);
}

pub(super) struct Call<I, O, F> {
    pub(super) slot: Slot<I, O>,
    pub(super) act: F,
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
pub(super) enum Work {
    Settle(Slot<Vec<Settlement>, Vec<bool>>),
    Extend(Slot<Vec<(DeliveryId, i64, Micros)>, Vec<bool>>),
    Begin(Slot<Vec<AttemptStart>, Vec<bool>>),
    Accept(Slot<Vec<NewNotification>, Vec<Accepted>>),
    Other(Box<dyn Single>),
    /// Outside any transaction.
    Limit(Option<u64>, oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settle(_) => "Settle",
            Self::Extend(_) => "Extend",
            Self::Begin(_) => "Begin",
            Self::Accept(_) => "Accept",
            Self::Other(_) => "Other",
            Self::Limit(..) => "Limit",
            Self::Close(_) => "Close",
        })
    }
}

impl Work {
    fn rows(&self) -> usize {
        match self {
            Self::Settle(slot) => slot.input.len(),
            Self::Extend(slot) => slot.input.len(),
            Self::Begin(slot) => slot.input.len(),
            Self::Accept(slot) => slot
                .input
                .iter()
                .map(|new| 1 + new.deliveries.len() + new.inbox.len())
                .sum(),
            Self::Other(_) => 8,
            Self::Limit(..) | Self::Close(_) => 0,
        }
    }

    fn is_outside(&self) -> bool {
        matches!(self, Self::Limit(..) | Self::Close(_))
    }

    fn finish(self, result: Result<(), StoreError>) {
        match self {
            Self::Settle(slot) => slot.finish(result),
            Self::Extend(slot) => slot.finish(result),
            Self::Begin(slot) => slot.finish(result),
            Self::Accept(slot) => slot.finish(result),
            Self::Other(single) => single.finish(result),
            Self::Limit(_, reply) => drop(reply.send(result)),
            Self::Close(reply) => reply.send(()).unwrap_or_default(),
        }
    }
}

pub(super) struct Writer {
    pub(super) conn: SqliteConnection,
    pub(super) config: StoreConfig,
    pub(super) queue: mpsc::Receiver<Work>,
    pub(super) watchers: Arc<Watchers>,
}

impl Writer {
    pub(super) async fn run(mut self) {
        let group_max = self.config.group_max.max(1);
        let mut taken = Vec::with_capacity(group_max);
        let mut waiting = VecDeque::with_capacity(group_max);
        let mut closing = Vec::new();
        loop {
            if waiting.is_empty() {
                taken.clear();
                if self.queue.recv_many(&mut taken, group_max).await == 0 {
                    break;
                }
                waiting.extend(taken.drain(..));
            }
            if waiting.front().is_some_and(Work::is_outside) {
                match waiting.pop_front() {
                    Some(Work::Limit(bytes, reply)) => {
                        let result = connect::limit_size(&mut self.conn, bytes).await;
                        drop(reply.send(result));
                    }
                    Some(Work::Close(reply)) => {
                        // What was sent before is still done; what comes later is refused by the closed queue.
                        self.queue.close();
                        closing.push(reply);
                    }
                    _ => {}
                }
                continue;
            }
            let mut group = Vec::with_capacity(waiting.len());
            let mut rows = 0;
            while let Some(work) = waiting
                .pop_front_if(|work| !work.is_outside() && (rows == 0 || rows + work.rows() <= GROUP_ROWS))
            {
                rows += work.rows();
                group.push(work);
            }
            self.group(group).await;
        }
        if let Err(error) = self.conn.close().await {
            tracing::warn!(%error, "the store's writer did not close cleanly");
        }
        for reply in closing {
            reply.send(()).unwrap_or_default();
        }
    }

    async fn group(&mut self, mut group: Vec<Work>) {
        match self.transaction(&mut group).await {
            Ok(()) => group.into_iter().for_each(|work| work.finish(Ok(()))),
            Err(Fault::Begin(error)) => {
                group.into_iter().for_each(|work| work.finish(Err(error.clone())));
                self.reopen().await;
            }
            Err(Fault::Work(error)) if group.len() == 1 => {
                group.into_iter().for_each(|work| work.finish(Err(error.clone())));
            }
            Err(Fault::Work(error)) => {
                tracing::warn!(%error, operations = group.len(), "a group was rolled back; retrying one by one");
                for work in group {
                    let mut alone = [work];
                    let result = self.transaction(&mut alone).await.map_err(Fault::into_error);
                    let [work] = alone;
                    work.finish(result);
                }
            }
        }
    }

    /// A connection on which no transaction begins may be broken for good; a new one costs little.
    async fn reopen(&mut self) {
        match connect::writer(&self.config.path).await {
            Ok(conn) => self.conn = conn,
            Err(error) => tracing::error!(%error, "the store's writer could not connect again"),
        }
    }

    async fn transaction(&mut self, group: &mut [Work]) -> Result<(), Fault> {
        let mut transaction = self
            .conn
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(|error| Fault::Begin(error.into()))?;
        let mut tx = Tx {
            conn: &mut transaction,
            config: &self.config,
            now: Micros::now(),
            touched: Vec::new(),
        };
        let result = perform(&mut tx, group).await;
        let touched = std::mem::take(&mut tx.touched);
        drop(tx);
        if let Err(error) = result {
            if let Err(error) = transaction.rollback().await {
                tracing::error!(%error, "a group could not be rolled back");
            }
            return Err(Fault::Work(error));
        }
        // A commit that fails leaves the transaction open; dropping it rolls back.
        transaction
            .commit()
            .await
            .map_err(|error| Fault::Work(error.into()))?;
        self.watchers.wake(touched.iter().map(TopicKey::as_str));
        Ok(())
    }
}

enum Fault {
    /// Nothing can be written at the moment.
    Begin(StoreError),
    Work(StoreError),
}

impl Fault {
    fn into_error(self) -> StoreError {
        match self {
            Self::Begin(error) | Self::Work(error) => error,
        }
    }
}

/// Does the slots of one kind together: their inputs in one list, its results dealt out again.
macro_rules! together {
    ($tx:expr, $group:expr, $kind:ident, $run:path) => {{
        let all: Vec<_> = $group
            .iter()
            .filter_map(|work| {
                if let Work::$kind(slot) = work {
                    Some(slot.input.as_slice())
                } else {
                    None
                }
            })
            .flatten()
            .collect();
        if !all.is_empty() {
            let mut results = $run($tx, &all).await?.into_iter();
            for work in $group.iter_mut() {
                if let Work::$kind(slot) = work {
                    slot.output = Some(results.by_ref().take(slot.input.len()).collect());
                }
            }
        }
        for work in $group.iter_mut() {
            if let Work::$kind(slot) = work
                && slot.input.is_empty()
            {
                slot.output = Some(Vec::new());
            }
        }
    }};
}

async fn perform(tx: &mut Tx<'_>, group: &mut [Work]) -> Result<(), StoreError> {
    together!(tx, group, Settle, queue::settle);
    together!(tx, group, Extend, queue::extend);
    together!(tx, group, Begin, queue::begin_attempts);
    let calls: Vec<&[NewNotification]> = group
        .iter()
        .filter_map(|work| {
            if let Work::Accept(slot) = work {
                Some(slot.input.as_slice())
            } else {
                None
            }
        })
        .collect();
    if !calls.is_empty() {
        let mut results = accept::accept(tx, &calls).await?.into_iter();
        for work in group.iter_mut() {
            if let Work::Accept(slot) = work {
                slot.output = results.next();
            }
        }
    }
    // Claims come last and see what the group made due.
    for work in group.iter_mut() {
        if let Work::Other(single) = work {
            single.run(tx).await?;
        }
    }
    Ok(())
}
