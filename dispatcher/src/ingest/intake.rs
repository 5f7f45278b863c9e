//! One batch: planned, given room in the queue, stored. What becomes of each event is said for each event.

use std::{
    collections::{BTreeMap, HashSet},
    hash::Hash,
};

use common::{http::Problem, ids::TenantId};
use http::StatusCode;

use crate::{
    api::{ApiState, Refusal, plan_events},
    capacity::Room,
    model::{Event, EventPlace, IncomingEvent},
    store::StoreError,
};

/// An event that was read.
#[derive(Debug)]
pub(crate) struct Candidate<K> {
    pub(crate) place: EventPlace,
    /// What keeps it in order: of one key nothing is stored behind what was refused.
    pub(crate) key: K,
    pub(crate) tenant: TenantId,
    pub(crate) event: Event,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its notifications are stored.
    Stored,
    /// It was taken in before.
    Repeated,
    /// No rule is about it.
    Ignored,
    /// Nothing can be made of it as things are.
    Refused(Refusal),
    /// One before it with its key was refused, so it was not looked at.
    Behind,
    /// It was not looked at, for a reason that is not its own.
    Waits,
}

/// Why a batch came to a halt. What was not done has to wait, and nothing of it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The queue is full.
    Full,
    /// The database does not answer.
    Away,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Taken {
    /// One for each event, in order.
    pub(crate) fates: Vec<Fate>,
    /// Why some of them wait.
    pub(crate) halt: Option<Halt>,
}

impl Taken {
    fn halted(count: usize, halt: Halt) -> Self {
        Self {
            fates: vec![Fate::Waits; count],
            halt: Some(halt),
        }
    }
}

/// An event that is ready to be stored, and its number in the batch.
struct Ready {
    number: usize,
    event: IncomingEvent,
    rooms: Vec<Room>,
}

/// Takes a batch in.
pub(crate) async fn take_in<K: Eq + Hash + Clone>(api: &ApiState, batch: Vec<Candidate<K>>) -> Taken {
    let count = batch.len();
    let Some(planned) = planned(api, &batch).await else {
        return Taken::halted(count, Halt::Away);
    };
    let mut fates = vec![Fate::Waits; count];
    let mut halt = None;
    let mut refused: HashSet<K> = HashSet::new();
    let mut ready = Vec::with_capacity(count);
    for (number, (candidate, planned)) in batch.into_iter().zip(planned).enumerate() {
        if refused.contains(&candidate.key) {
            fates[number] = Fate::Behind;
            continue;
        }
        let notifications = match planned {
            Ok(notifications) if notifications.is_empty() => {
                fates[number] = Fate::Ignored;
                continue;
            }
            Ok(notifications) => notifications,
            Err(refusal) => {
                fates[number] = Fate::Refused(refusal);
                refused.insert(candidate.key);
                continue;
            }
        };
        let mut rooms = Vec::with_capacity(notifications.len());
        for notification in &notifications {
            match api.capacity().take(notification).await {
                Ok(room) => rooms.push(room),
                Err(_) => {
                    halt = Some(Halt::Full);
                    break;
                }
            }
        }
        if halt.is_some() {
            break;
        }
        let Candidate {
            place, tenant, event, ..
        } = candidate;
        ready.push(Ready {
            number,
            event: IncomingEvent {
                source: event.source.filter(|_| event.id.is_some()),
                place,
                tenant,
                kind: event.kind,
                id: event.id,
                notifications,
            },
            rooms,
        });
    }
    if let Err(away) = store(api, ready, &mut fates).await {
        halt = Some(away);
    }
    Taken { fates, halt }
}

/// What each event becomes; none: the database does not answer.
async fn planned<K>(
    api: &ApiState,
    batch: &[Candidate<K>],
) -> Option<Vec<Result<Vec<crate::model::NewNotification>, Refusal>>> {
    let mut tenants: BTreeMap<&TenantId, Vec<usize>> = BTreeMap::new();
    for (number, candidate) in batch.iter().enumerate() {
        tenants.entry(&candidate.tenant).or_default().push(number);
    }
    let mut planned: Vec<_> = batch.iter().map(|_| Ok(Vec::new())).collect();
    for (tenant, numbers) in tenants {
        let events: Vec<&Event> = numbers.iter().map(|number| &batch[*number].event).collect();
        let plans = match plan_events(api, tenant, &events).await {
            Ok(plans) => plans,
            Err(problem) => {
                tracing::debug!(detail = %problem.detail, "events wait for the database");
                return None;
            }
        };
        for (number, plan) in numbers.into_iter().zip(plans) {
            planned[number] = plan.map(|made| made.into_iter().map(|made| made.plan.notification).collect());
        }
    }
    Some(planned)
}

/// Stores what is ready: all at once, and one by one where something in it cannot be stored.
async fn store(api: &ApiState, ready: Vec<Ready>, fates: &mut [Fate]) -> Result<(), Halt> {
    if ready.is_empty() {
        return Ok(());
    }
    let events = ready.iter().map(|ready| ready.event.clone()).collect();
    match api.service.take_in(events).await {
        Ok(fresh) => {
            for (ready, fresh) in ready.into_iter().zip(fresh) {
                fates[ready.number] = stored(ready.rooms, fresh);
            }
            return Ok(());
        }
        Err(error) if waits(&error) => return Err(Halt::Away),
        Err(error) => tracing::warn!(%error, "a batch of events is stored one by one"),
    }
    for Ready { number, event, rooms } in ready {
        match api.service.take_in(vec![event]).await {
            Ok(fresh) => fates[number] = stored(rooms, fresh == [true]),
            Err(error) if waits(&error) => return Err(Halt::Away),
            Err(error) => {
                let problem = Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "not_storable",
                    format!("the database refuses it: {error}"),
                );
                fates[number] = Fate::Refused(Refusal {
                    rule: None,
                    problem: Box::new(problem),
                });
            }
        }
    }
    Ok(())
}

fn stored(rooms: Vec<Room>, fresh: bool) -> Fate {
    if fresh {
        rooms.into_iter().for_each(Room::keep);
        Fate::Stored
    } else {
        Fate::Repeated
    }
}

/// Whether waiting helps.
fn waits(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::Again)
}
