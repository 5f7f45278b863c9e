//! A key that many have: whether those who read stand in the way of what arrives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::ids::NotificationId;
use dispatcher::store::{Mark, Store, StoreError};
use tokio::task::JoinSet;

use crate::{
    Outcome,
    flow::CALLERS,
    place::Database,
    work::{self, Inbox},
};

/// Who has the role.
const READERS: u64 = 10_000;
/// Of whom so many mark something at once.
const AT_ONCE: u64 = 32;
/// Notifications to the role that are there to be read.
const THERE: u64 = 2_000;

/// Both in a second.
pub(crate) struct Rates {
    pub(crate) accepted: f64,
    pub(crate) read: f64,
}

/// Accepts one at a time by many callers, while readers of the one role mark as read what they have by it.
pub(crate) async fn beside_readers(database: &Database, time: Duration, inbox: Inbox) -> Outcome<Rates> {
    let store = database.open().await?;
    let ids = Arc::new(fill(&store).await?);
    let began = Instant::now();
    let (accepted, read) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut work = JoinSet::new();
    for caller in 0..CALLERS {
        let (store, accepted) = (store.clone(), Arc::clone(&accepted));
        work.spawn(async move {
            let mut number = caller;
            while began.elapsed() < time {
                store.accept(vec![work::in_inbox(inbox, number)]).await?;
                accepted.fetch_add(1, Ordering::Relaxed);
                number += CALLERS;
            }
            Ok::<_, StoreError>(())
        });
    }
    for first in 0..AT_ONCE {
        let (store, read, ids) = (store.clone(), Arc::clone(&read), Arc::clone(&ids));
        work.spawn(async move {
            let mut number = first;
            while began.elapsed() < time {
                // Everybody once, then the next notification.
                let id = ids.get((number / READERS) as usize % ids.len()).copied();
                let marked = store
                    .mark(
                        &work::reader(number % READERS),
                        id.into_iter().collect(),
                        Mark::Read,
                    )
                    .await?;
                read.fetch_add(marked.changed.len() as u64, Ordering::Relaxed);
                number += AT_ONCE;
            }
            Ok(())
        });
    }
    while let Some(ended) = work.join_next().await {
        ended??;
    }
    let seconds = began.elapsed().as_secs_f64();
    store.close().await;
    Ok(Rates {
        accepted: accepted.load(Ordering::Relaxed) as f64 / seconds,
        read: read.load(Ordering::Relaxed) as f64 / seconds,
    })
}

/// What is there before: the role's notifications, and its readers, whom the store has seen.
async fn fill(store: &Store) -> Outcome<Vec<NotificationId>> {
    let there: Vec<_> = (0..THERE)
        .map(|number| work::in_inbox(Inbox::Role, number))
        .collect();
    let ids = there.iter().map(|one| one.id).collect();
    store.accept(there).await?;
    let mut coming = JoinSet::new();
    for first in 0..CALLERS {
        let store = store.clone();
        coming.spawn(async move {
            let mut number = first;
            while number < READERS {
                store.touch_reader(&work::reader(number)).await?;
                number += CALLERS;
            }
            Ok::<_, StoreError>(())
        });
    }
    while let Some(ended) = coming.join_next().await {
        ended??;
    }
    Ok(ids)
}
