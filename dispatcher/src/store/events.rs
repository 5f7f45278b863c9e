//! Events: each is taken in once, together with the notifications that it became.

use std::collections::HashSet;

use super::{StoreError, accept, sql::events as sql, transaction::Tx};
use crate::model::{Accepted, IncomingEvent, Micros, NewNotification};

/// Origin, position, stamped, tenant, kind, source, id, notifications.
type EventRow<'a> = (
    &'a str,
    i64,
    i64,
    &'a str,
    &'a str,
    Option<&'a str>,
    Option<&'a str>,
    i64,
);

/// Stores the notifications of those events that were not taken in before. One answer for each event: whether it is new.
pub(super) async fn take_in(tx: &mut Tx<'_>, events: &[&IncomingEvent]) -> Result<Vec<bool>, StoreError> {
    let rows: Vec<EventRow<'_>> = events
        .iter()
        .map(|event| {
            (
                event.place.origin.as_ref(),
                event.place.position,
                event.place.stamped,
                event.tenant.as_str(),
                event.kind.as_str(),
                event.source.as_deref(),
                event.id.as_deref(),
                i64::try_from(event.notifications.len()).unwrap_or(i64::MAX),
            )
        })
        .collect();
    let taken: Vec<(String, i64, i64)> = tx
        .conn
        .query(sql::TAKE_EVENTS)
        .rows(&rows)
        .bind(tx.now.0)
        .all()
        .await?;
    let mut taken: HashSet<(String, i64, i64)> = taken.into_iter().collect();
    // Of two at one place in a call the first is the one that was taken.
    let fresh: Vec<bool> = events
        .iter()
        .map(|event| {
            let place = &event.place;
            taken.remove(&(place.origin.as_ref().to_owned(), place.position, place.stamped))
        })
        .collect();
    let calls: Vec<&[NewNotification]> = events
        .iter()
        .zip(&fresh)
        .filter(|(_, fresh)| **fresh)
        .map(|(event, _)| event.notifications.as_slice())
        .collect();
    let answers = accept::accept(tx, &calls).await?;
    debug_assert!(
        answers.iter().flatten().all(|answer| *answer == Accepted::New),
        "an event's notifications have no keys of their own"
    );
    Ok(fresh)
}

/// Forgets events that nobody brings again, a bounded number.
pub(super) async fn prune(tx: &mut Tx<'_>, limit: u32) -> Result<u64, StoreError> {
    let before: Micros = tx.now.minus(tx.config.event_retention);
    tx.conn
        .query(sql::PRUNE_EVENTS)
        .bind(before.0)
        .bind(i64::from(limit))
        .run()
        .await
}
