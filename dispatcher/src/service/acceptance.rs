//! Accepting: into the store, or while that is away into the spool, and telling of it.

use common::topic::TopicKey;

use super::{Service, routed};
use crate::{
    accepted::AfterCommit,
    fail_point,
    model::{Accepted, IncomingEvent, Micros, NewNotification, Occurred, ScheduleEnd},
    realtime::{Frames, Realtime},
    spool::{SpoolError, Turn},
    store::{Standing, StoreError},
};

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// What the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the spool says, while the database is away or something is spooled.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Times that a request goes from one to the other, where the spool empties just as it comes.
const TURNS: u32 = 4;

/// What is to be done after a commit, made before it.
struct After {
    commit: AfterCommit,
    frames: Option<Frames>,
    /// It may have taken another one's place, on pages of these keys.
    replaces: Option<(Standing, Vec<TopicKey>)>,
}

impl After {
    fn of(notifications: &[NewNotification]) -> Vec<Self> {
        let now = Micros::now();
        notifications
            .iter()
            .map(|one| Self {
                commit: AfterCommit::of(one, now),
                frames: Realtime::prepare(one),
                replaces: Standing::of(one).zip(
                    one.audience
                        .as_ref()
                        .map(|audience| routed(audience, &one.tenant)),
                ),
            })
            .collect()
    }
}

impl Service {
    /// Stores notifications, publishes their frames, and wakes the queue. One answer for each, in order; what is new is
    /// committed and flushed when this returns. A caller that goes away changes nothing of that.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is stored.
    pub async fn accept(&self, notifications: Vec<NewNotification>) -> Result<Vec<Accepted>, StoreError> {
        let service = self.clone();
        self.detached(async move { service.accept_now(notifications).await })
            .await
    }

    async fn accept_now(&self, notifications: Vec<NewNotification>) -> Result<Vec<Accepted>, StoreError> {
        let after = After::of(&notifications);
        let accepted = self.0.store.accept(notifications).await?;
        self.committed(&accepted, after).await;
        Ok(accepted)
    }

    async fn committed(&self, accepted: &[Accepted], after: Vec<After>) {
        for (answer, after) in accepted.iter().zip(after) {
            if *answer != Accepted::New {
                continue;
            }
            after.commit.tell(&self.0.wake, &self.0.metrics);
            fail_point::reached("accept", "before_publish");
            if let Some(frames) = after.frames {
                self.0.realtime.publish_accepted(frames).await;
            }
            if let Some((standing, keys)) = after.replaces {
                self.tell_replaced(&standing, &keys).await;
            }
        }
    }

    /// Stores the notifications of events that were not taken in before, each event with all of its own in one transaction, and
    /// publishes their frames. One answer for each event: whether it was new.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is stored, as far as is known; the same again changes nothing that was.
    pub(crate) async fn take_in(&self, events: Vec<IncomingEvent>) -> Result<Vec<bool>, StoreError> {
        let service = self.clone();
        self.detached(async move {
            let after: Vec<Vec<After>> = events
                .iter()
                .map(|event| After::of(&event.notifications))
                .collect();
            let fresh = service.0.store.take_in(events).await?;
            let (answers, after): (Vec<_>, Vec<_>) = fresh
                .iter()
                .zip(after)
                .filter(|(fresh, _)| **fresh)
                .flat_map(|(_, after)| after.into_iter().map(|after| (Accepted::New, after)))
                .unzip();
            service.committed(&answers, after).await;
            Ok(fresh)
        })
        .await
    }

    /// Ends a schedule's occurrence: its notification, where there is one, is stored with the schedule's next time in one
    /// transaction, and published then. False: the claim is lost, nothing was stored.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is stored.
    pub(crate) async fn end_occurrence(&self, end: ScheduleEnd) -> Result<bool, StoreError> {
        let service = self.clone();
        self.detached(async move {
            let after = match &end.occurred {
                Occurred::Ran(_, notification) => After::of(std::slice::from_ref(&**notification)),
                Occurred::Failed(..) | Occurred::Nothing => Vec::new(),
            };
            let ended = service.0.store.end_occurrence(end).await?;
            if ended {
                service.committed(&[Accepted::New], after).await;
            }
            Ok(ended)
        })
        .await
    }

    /// The same as [`Self::accept`], but what finds the database away is spooled, where there is a spool, and so is what has to queue behind that:
    /// then `respell` says in them what their idempotency keys will repeat. A commit of which nobody knows is settled by the
    /// notifications' ids.
    ///
    /// # Errors
    /// [`AcceptError`]: nothing is stored or spooled, but for [`SpoolError::Unclear`].
    pub async fn accept_or_spool(
        &self,
        notifications: Vec<NewNotification>,
        respell: impl Fn(&mut [NewNotification]) + Send + Sync + 'static,
    ) -> Result<Vec<Accepted>, AcceptError> {
        let service = self.clone();
        let work = Box::pin(async move { service.accept_or_spool_now(notifications, &respell).await });
        tokio::spawn(work).await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable {
                reason: error.to_string(),
            }
            .into())
        })
    }

    async fn accept_or_spool_now(
        &self,
        mut notifications: Vec<NewNotification>,
        respell: &(impl Fn(&mut [NewNotification]) + Sync),
    ) -> Result<Vec<Accepted>, AcceptError> {
        let Some(spool) = &self.0.spool else {
            return Ok(self.accept_now(notifications).await?);
        };
        for _ in 0..TURNS {
            match spool.turn().await {
                Turn::Refused => {
                    let reason = "redis is away, and notifications from before wait in it".to_owned();
                    return Err(SpoolError::Away { reason }.into());
                }
                Turn::Direct => {
                    let after = After::of(&notifications);
                    match spool
                        .away()
                        .bounded(self.0.store.accept(notifications.clone()))
                        .await
                    {
                        Ok(accepted) => {
                            self.committed(&accepted, after).await;
                            return Ok(accepted);
                        }
                        Err(StoreError::Unavailable { .. }) => {
                            respell(&mut notifications);
                            fail_point::reached("spool", "before_take");
                            let accepted = spool.take(notifications).await?;
                            fail_point::reached("spool", "after_take");
                            return Ok(self.spooled(accepted, after).await);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                Turn::Behind => {
                    let after = After::of(&notifications);
                    let mut respelt = notifications.clone();
                    respell(&mut respelt);
                    if let Some(accepted) = spool.behind(respelt).await? {
                        return Ok(self.spooled(accepted, after).await);
                    }
                }
            }
        }
        let reason = "the spool opens and closes".to_owned();
        Err(SpoolError::Away { reason }.into())
    }

    /// Frames go out at once, from memory; all else when it is stored.
    async fn spooled(&self, accepted: Vec<Accepted>, after: Vec<After>) -> Vec<Accepted> {
        for (answer, after) in accepted.iter().zip(after) {
            if let (Accepted::Spooled, Some(frames)) = (answer, after.frames) {
                self.0.realtime.publish_spooled(frames).await;
            }
        }
        accepted
    }

    /// Tells open pages that an older notification has given its place.
    async fn tell_replaced(&self, standing: &Standing, keys: &[TopicKey]) {
        match self.0.store.replaced_by(standing).await {
            Ok(Some(replaced)) => self.tell_withdrawn(keys, replaced),
            Ok(None) => {}
            // It is withdrawn; open pages learn it from the change feed.
            Err(error) => tracing::warn!(%error, "sockets are not told of a replaced notification"),
        }
    }
}
