//! While the database is away: what is accepted waits in a stream of Redis, and is stored in order when it is back.
//!
//! | file | what is there |
//! | --- | --- |
//! | `gate` | what this node knows, and the invariant: nothing overtakes what is spooled, on no node |
//! | `look` | keeps it known |
//! | `promise` | whether Redis keeps what it takes; else nothing is spooled |
//! | `writer`, `entry` | into the spool: idempotency keys judged and entry appended in one step |
//! | `drain` | out of it: one fenced drainer over all dispatchers |
//! | `outcome` | what became of frames, which go out on spooling |
//! | `away` | whether the database is away |
//! | `link`, `names`, `scripts/` | Redis |
//!
//! An entry that was taken is durable: flushed (`appendfsync always`), or on as many replicas as `redis.wait_replicas` says.

mod away;
mod drain;
mod entry;
mod gate;
mod link;
mod look;
mod names;
mod outcome;
mod promise;
mod writer;

use std::{sync::Arc, time::Duration};

use common::redis::{ClientError, RedisConfig};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::away::Away;
pub(crate) use self::outcome::{Outcome, Outcomes};
use self::{
    drain::Drainer,
    gate::{Gate, Way},
    link::Link,
    look::Looker,
    writer::{Mode, Taken, Writer},
};
use crate::{
    config::SpoolConfig,
    metrics::Metrics,
    model::{Accepted, NewNotification},
    store::Store,
    wake::Wake,
};

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// The spool, or what waits before it, holds as much as it may: 429.
    #[error("too much waits for the database")]
    Full,
    /// Redis is away too, or does not promise to keep what it takes. Nothing was taken.
    #[error("nothing can be spooled: {reason}")]
    Away {
        /// For the log and for people.
        reason: String,
    },
    /// Redis gave no answer, or no replica has it in time: it may be taken all the same.
    #[error("it is not known whether it was spooled: {reason}")]
    Unclear {
        /// For the log.
        reason: String,
    },
}

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Store directly.
    Direct,
    /// Something is spooled: [`Spool::behind`].
    Behind,
    /// Something is spooled, and Redis is away: nothing, for now.
    Refused,
}

/// The spool. Cheap to clone; ends with the last one.
#[derive(Debug, Clone)]
pub struct Spool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Link,
    gate: Arc<Gate>,
    looker: Arc<Looker>,
    writer: Writer,
    outcomes: Outcomes,
    away: Away,
    metrics: Metrics,
    _looking: DropGuard,
}

impl Spool {
    /// Connects, and looks once before it returns, whether Redis answers or not. `node`: a name that no other process has;
    /// `away_after`: what the database does not answer within this time counts as away. Needs a runtime.
    ///
    /// # Errors
    /// [`ClientError`]: the configuration cannot be used.
    pub async fn start(
        redis: &RedisConfig,
        config: &SpoolConfig,
        node: &str,
        away_after: Duration,
        metrics: &Metrics,
    ) -> Result<Self, ClientError> {
        let link = Link::new(redis)?;
        let gate = Arc::new(Gate::new(node));
        let looker = Arc::new(Looker::new(link.clone(), Arc::clone(&gate), metrics.clone()));
        looker.look().await;
        let stop = CancellationToken::new();
        let looking = stop.clone().drop_guard();
        let run = Arc::clone(&looker).run();
        tokio::spawn(async move {
            // None: the spool has ended.
            stop.run_until_cancelled_owned(run).await;
        });
        let writer = Writer::start(link.clone(), Arc::clone(&gate), config.clone(), metrics.clone());
        Ok(Self(Arc::new(Inner {
            outcomes: Outcomes::start(link.clone()),
            link,
            gate,
            looker,
            writer,
            away: Away::new(away_after),
            metrics: metrics.clone(),
            _looking: looking,
        })))
    }

    /// What a request may do that is here now. Asks Redis only where this node's knowledge is too old.
    pub async fn turn(&self) -> Turn {
        match self.0.looker.way().await {
            Way::Direct | Way::Ask => Turn::Direct,
            Way::Behind => Turn::Behind,
            Way::Refuse => Turn::Refused,
        }
    }

    /// Spools a request's notifications, as the database is away. One answer for each, in order: [`Accepted::Spooled`], or
    /// what their idempotency keys say. Durable when it returns.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn take(&self, notifications: Vec<NewNotification>) -> Result<Vec<Accepted>, SpoolError> {
        match self.0.writer.take(Mode::Open, notifications).await? {
            Taken::Spooled(answers) => Ok(answers),
            Taken::Closed => Err(SpoolError::Unclear {
                reason: "redis says that nothing was asked of it".to_owned(),
            }),
        }
    }

    /// Likewise behind what is spooled. None: there is nothing any more, and this node may store directly.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn behind(
        &self,
        notifications: Vec<NewNotification>,
    ) -> Result<Option<Vec<Accepted>>, SpoolError> {
        match self.0.writer.take(Mode::Behind, notifications).await? {
            Taken::Spooled(answers) => Ok(Some(answers)),
            Taken::Closed => Ok(None),
        }
    }

    /// Why nothing can be spooled now, if so.
    #[must_use]
    pub fn unusable(&self) -> Option<String> {
        self.0.gate.unusable()
    }

    /// Whether something is spooled, as far as this node knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.gate.is_open()
    }

    /// Stores what is spooled, whenever there is something and no other dispatcher does, until the stop.
    pub async fn drain(self, store: Store, wake: Wake, stop: CancellationToken) {
        let drainer = Drainer {
            link: self.0.link.clone(),
            gate: Arc::clone(&self.0.gate),
            looker: Arc::clone(&self.0.looker),
            metrics: self.0.metrics.clone(),
            away: self.0.away.clone(),
            store,
            wake,
        };
        drop(self);
        drainer.run(stop).await;
    }

    /// What this process knows of the database.
    #[must_use]
    pub fn away(&self) -> &Away {
        &self.0.away
    }

    /// Where ends of frames are told that went out on spooling.
    pub(crate) fn outcomes(&self) -> Outcomes {
        self.0.outcomes.clone()
    }
}
