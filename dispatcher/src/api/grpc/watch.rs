//! Following an inbox: the change feed as a stream. Each message carries the cursor behind it, so who was cut off goes on
//! without a gap and without a repeat.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use common::{
    config::GrpcConfig,
    grpc::{Credentials, Deadline, deadline_exceeded, status},
    http::{Caller, Problem},
    ids::{Name, TenantId},
};
use dashmap::DashMap;
use futures_util::{
    Stream,
    stream::{self, BoxStream, StreamExt},
};
use http::StatusCode;
use proto::v1::{WatchInboxRequest, WatchInboxResponse};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::Status;

use super::{
    super::{
        feed::{self, Wait, resync, wait_for},
        outage::{Needs, within},
        problems::store_problem,
        state::ApiState,
    },
    call::Call,
    view::change,
    whose::{named, whose},
};
use crate::{
    model::{Changes, Cursor, ReaderKeys},
    store::ChangesResult,
};

/// Changes of one message at the most.
const BATCH: u32 = 100;

/// When a client that was sent away comes again.
const COME_BACK: Duration = Duration::from_secs(1);

/// How long nobody looks at a clock that has to pass a second.
const SECOND: Duration = Duration::from_secs(1);

/// The changes of an inbox until something ends it, which is said as a status.
pub struct Watching(BoxStream<'static, Result<WatchInboxResponse, Status>>);

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watching")
    }
}

impl Stream for Watching {
    type Item = Result<WatchInboxResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

/// Begins to follow, at a cursor or at the present.
pub(super) async fn begin(
    state: &ApiState,
    places: &Arc<Places>,
    call: Call,
    request: WatchInboxRequest,
) -> Result<Watching, Problem> {
    let after = request.cursor.as_deref().map(feed::cursor).transpose();
    let after = after.map_err(|problem| problem.field("cursor"))?;
    let whose = whose(
        state,
        &call.caller,
        request.tenant_id.as_deref(),
        request.user_id.as_deref(),
    )
    .await?;
    let place = places.take(&call.caller)?;
    let present = state.store().changes(&whose.reader, after.as_ref(), 1).await;
    let ChangesResult::Changes(present) = present.map_err(store_problem)? else {
        return Err(resync().field("cursor"));
    };
    let after = after.unwrap_or(present.cursor);
    let deadline = call.credentials.extensions().get::<Deadline>();
    let watch = Watch {
        deadline: deadline.map(|deadline| deadline.0),
        heartbeat: places.heartbeat,
        state: state.clone(),
        caller: call.caller,
        credentials: call.credentials,
        named: whose.named,
        reader: whose.reader,
        after: after.clone(),
        _place: place,
    };
    let first = WatchInboxResponse {
        changes: Vec::new(),
        cursor: after.encode(),
    };
    let first = stream::once(std::future::ready(Ok(first)));
    let then = stream::unfold(Some(watch), async |watch| {
        let mut watch = watch?;
        match watch.next().await {
            Ok(message) => Some((Ok(message), Some(watch))),
            Err(problem) => Some((Err(status(problem)), None)),
        }
    });
    Ok(Watching(first.chain(then).boxed()))
}

struct Watch {
    state: ApiState,
    caller: Caller,
    credentials: Credentials,
    /// The user whom a service named; its keys are those of its newest token.
    named: Option<Name>,
    reader: ReaderKeys,
    after: Cursor,
    deadline: Option<Instant>,
    heartbeat: Duration,
    _place: Place,
}

impl Watch {
    /// The next message: changes, or none after a heartbeat. Nothing is told to a credential that is no longer good.
    async fn next(&mut self) -> Result<WatchInboxResponse, Problem> {
        let found = self.wait().await?;
        self.caller = self.credentials.caller().await?;
        if found.changes.is_empty() {
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(deadline_exceeded());
            }
            if self.state.closing.is_cancelled() {
                return Err(Problem::unavailable(
                    "this server stops; come back with the cursor of the last message",
                    COME_BACK,
                ));
            }
            if let Some(user) = &self.named {
                (self.reader, _) = named(&self.state, &self.caller, user).await?;
            }
        }
        let user = self.reader.user.as_str();
        let message = WatchInboxResponse {
            changes: found.changes.iter().map(|one| change(one, user)).collect(),
            cursor: found.cursor.encode(),
        };
        self.after = found.cursor;
        Ok(message)
    }

    /// Waits until something happens, or it is time to look around.
    async fn wait(&self) -> Result<Changes, Problem> {
        // The last second counts as a whole one.
        let credential = self.caller.remaining(jiff::Timestamp::now()) + SECOND;
        let deadline = self.deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let wait = Wait::at_most(self.heartbeat.min(credential).min(deadline));
        let work = wait_for(
            &self.state,
            &self.caller,
            &self.reader,
            &self.after,
            wait,
            BATCH,
            |_| true,
        );
        let found = within(&self.state, Needs::ReadsPrimary, Box::pin(work)).await?;
        found.map_err(|problem| {
            if problem.status == StatusCode::GONE {
                problem.field("cursor")
            } else {
                problem
            }
        })
    }
}

/// How many may watch.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    users: DashMap<(TenantId, Name), usize>,
    of_a_user: usize,
    heartbeat: Duration,
}

/// One who watches.
struct Place {
    _one: OwnedSemaphorePermit,
    /// An end user's is counted for itself.
    user: Option<(Arc<Places>, (TenantId, Name))>,
}

impl Places {
    pub(super) fn new(config: &GrpcConfig) -> Self {
        Self {
            all: Arc::new(Semaphore::new(config.max_watches)),
            users: DashMap::new(),
            of_a_user: config.user_watches,
            heartbeat: config.heartbeat.0,
        }
    }

    fn take(self: &Arc<Self>, caller: &Caller) -> Result<Place, Problem> {
        let one = Arc::clone(&self.all)
            .try_acquire_owned()
            .map_err(|_| Problem::unavailable("as many watch here as may; try another server", COME_BACK))?;
        if caller.is_service() {
            return Ok(Place {
                _one: one,
                user: None,
            });
        }
        let key = (caller.tenant.clone(), caller.user.clone());
        let mut watching = self.users.entry(key.clone()).or_default();
        if *watching >= self.of_a_user {
            let detail = format!(
                "one user may watch {} times at once; end another one",
                self.of_a_user
            );
            return Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_watches",
                detail,
            ));
        }
        *watching += 1;
        Ok(Place {
            _one: one,
            user: Some((Arc::clone(self), key)),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((places, key)) = &self.user {
            places.users.remove_if_mut(key, |_, watching| {
                *watching = watching.saturating_sub(1);
                *watching == 0
            });
        }
    }
}
