//! `/api/v1/control`: what operators see of sessions and do to them. Internal listener, scope `control`.

mod body;
mod orders;
mod presence;
mod sessions;
mod trace;

use std::{sync::Arc, time::Duration};

use common::{
    http::{Caller, Problem},
    ids::TenantId,
};
use serde::Serialize;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::body::Wanted;
use crate::{
    Hub,
    worker::{
        Control,
        control::{Job, Permit, Selection, Task},
    },
};

/// Lists and counts are answered with what is known after so long.
const READ_TIME: Duration = Duration::from_secs(2);

/// The same for orders, which are carried out to their end all the same.
const ORDER_TIME: Duration = Duration::from_secs(10);

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(sessions::find_sessions, sessions::select_sessions))
        .routes(routes!(
            sessions::count_sessions,
            sessions::count_selected_sessions
        ))
        .routes(routes!(presence::find_presence, presence::select_presence))
        .routes(routes!(orders::disconnect))
        .routes(routes!(orders::unsubscribe))
        .routes(routes!(orders::refresh))
        .routes(routes!(trace::trace))
}

/// How many sessions were found or told.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Count {
    /// Sessions.
    sessions: usize,
    /// Nodes that were asked.
    nodes: usize,
    /// False: not everything answered in time, and there may be more.
    complete: bool,
}

impl Count {
    fn new(answers: &Answers<usize>) -> Self {
        Self {
            sessions: answers.given.iter().sum(),
            nodes: 1,
            complete: answers.complete,
        }
    }
}

/// What the workers answered in time.
struct Answers<A> {
    given: Vec<A>,
    complete: bool,
}

/// The tenant that is meant: the caller's own, or for platform administrators the one that is named.
fn tenant(caller: &Caller, named: Option<&str>) -> Result<TenantId, Problem> {
    caller.require("control")?;
    let Some(named) = named else {
        return Ok(caller.tenant.clone());
    };
    let tenant = TenantId::new(named)
        .map_err(|error| Problem::invalid("invalid_value", "tenant", error.to_string()))?;
    if tenant != caller.tenant && !caller.has_scope("platform:admin") {
        return Err(Problem::scope_missing("platform:admin").field("tenant"));
    }
    Ok(tenant)
}

/// Checks whether the caller may mean these, and resolves them in the tenant, which the query `named` or not.
fn selection(
    caller: &Caller,
    tenant: &TenantId,
    named: Option<&str>,
    wanted: Wanted,
) -> Result<Selection, Problem> {
    if wanted.to.target.reaches_everyone() && !caller.has_scope("platform:admin") {
        return Err(Problem::scope_missing("platform:admin").field(wanted.field));
    }
    let selection = Selection::new(wanted.to, tenant, wanted.session);
    if named.is_some() && selection.is_of_all_tenants() {
        let detail = "`everyone` means all tenants: leave `tenant` out, or mean its own sessions";
        return Err(Problem::invalid("conflict", "tenant", detail));
    }
    Ok(selection)
}

/// A place among the calls that are under way, until it is dropped.
fn place(operators: &Arc<Semaphore>) -> Result<Permit, Problem> {
    let permit = Arc::clone(operators).try_acquire_owned().map_err(|_| {
        Problem::unavailable(
            "too many control calls are under way; try again",
            Duration::from_secs(1),
        )
    })?;
    Ok(Arc::new(permit))
}

/// Gives every worker its part, and waits for the answers until the deadline.
async fn ask<A>(
    hub: &Hub,
    selection: Selection,
    within: Duration,
    task: impl Fn(oneshot::Sender<A>) -> Task,
) -> Result<Answers<A>, Problem> {
    let deadline = Instant::now() + within;
    let permit = place(&hub.inner.operators)?;
    let selection = Arc::new(selection);
    let mut waiting = Vec::with_capacity(hub.inner.workers.len());
    let mut complete = true;
    for worker in &hub.inner.workers {
        let (answer, answered) = oneshot::channel();
        let job = Job::new(Arc::clone(&selection), task(answer), Arc::clone(&permit));
        let job = Control::Operator(Box::new(job));
        match timeout_at(deadline, worker.send(job)).await {
            Ok(Ok(())) => waiting.push(answered),
            _ => complete = false,
        }
    }
    let mut given = Vec::with_capacity(waiting.len());
    for answered in waiting {
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => given.push(answer),
            _ => complete = false,
        }
    }
    Ok(Answers { given, complete })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_under_way_are_bounded() {
        let operators = Arc::new(Semaphore::new(2));
        let (first, _second) = (place(&operators).unwrap(), place(&operators).unwrap());
        let refused = place(&operators).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (503, "unavailable"));
        assert_eq!(refused.retry_after, Some(Duration::from_secs(1)));
        // Every worker has its share of a place.
        let share = Arc::clone(&first);
        drop(first);
        assert!(place(&operators).is_err());
        drop(share);
        assert!(place(&operators).is_ok());
    }
}
