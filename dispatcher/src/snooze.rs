//! Brings back what readers have put off, when its time has come.
//!
//! When that is stands in the database, so a restart forgets nothing. Of several dispatchers that find the same, the one
//! whose mark changes something tells the reader's sessions: each comes back once.

use std::time::Duration;

use common::ids::NotificationId;
use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Micros, ReaderKeys},
    service::Service,
    store::{Mark, StoreError},
};

/// How often it is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Notifications of one look.
const BATCH: u32 = 500;

/// Readers who get theirs back at once.
const READERS_AT_ONCE: usize = 16;

/// When what its reader does not see at present is looked at again.
const UNSEEN: Duration = Duration::from_hours(24);

/// Works until it is stopped.
pub(crate) async fn run(service: Service, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        if let Err(error) = look(&service, &stop).await {
            tracing::debug!(%error, "what was put off could not be brought back");
        }
    }
}

/// Until nothing is due any more.
async fn look(service: &Service, stop: &CancellationToken) -> Result<(), StoreError> {
    while !stop.is_cancelled() {
        let now = Micros::now();
        let due = service.store().due_snoozes(now, BATCH).await?;
        let found: usize = due.iter().map(|(_, ids)| ids.len()).sum();
        let mut back = stream::iter(due)
            .map(|(reader, ids)| bring_back(service, reader, ids, now))
            .buffer_unordered(READERS_AT_ONCE);
        while let Some(done) = back.next().await {
            done?;
        }
        if found < BATCH as usize {
            break;
        }
    }
    Ok(())
}

async fn bring_back(
    service: &Service,
    reader: ReaderKeys,
    ids: Vec<NotificationId>,
    now: Micros,
) -> Result<(), StoreError> {
    // Another dispatcher may have been first: then nothing changes.
    let marked = service.mark(&reader, ids.clone(), Mark::Woken(now)).await?;
    let left: Vec<_> = ids
        .into_iter()
        .filter(|id| !marked.changed.contains(id))
        .collect();
    if !left.is_empty() {
        let store = service.store();
        store.put_off_snoozes(&reader, left, now.plus(UNSEEN)).await?;
    }
    Ok(())
}
