//! Accepting, and what goes through the queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    bus::{Bus, BusLimits, MemoryBus},
    receipts::in_memory,
};
use dispatcher::{
    Dispatcher, Parts,
    channels::{Channels, MemoryChannel},
    config::DispatcherConfig,
    keyring::Keyring,
    metrics::Metrics,
    model::Channel,
    settings::{Resolver, Settings},
    store::Store,
};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Outcome,
    place::Database,
    work::{self, Inbox},
};

/// Callers that accept single notifications at once.
pub(crate) const CALLERS: u64 = 64;
/// Callers that accept a thousand.
const BULK_CALLERS: usize = 4;
/// Notifications of one call of them.
const BULK: usize = 1_000;
/// What the channel holds at once: as much as webhooks do by default.
const HELD: usize = 256;
/// Longest time without progress.
const STUCK: Duration = Duration::from_secs(30);
/// Between two looks at how far the queue is.
const LOOK: Duration = Duration::from_millis(5);

/// Notifications a second that callers get stored, one at a time each.
pub(crate) async fn accept_singly(database: &Database, time: Duration, inbox: Inbox) -> Outcome<f64> {
    let store = database.open().await?;
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let store = store.clone();
        callers.spawn(async move {
            let mut count = 0_u64;
            while began.elapsed() < time {
                let number = count * CALLERS + caller;
                store.accept(vec![work::in_inbox(inbox, number)]).await?;
                count += 1;
            }
            Ok::<_, dispatcher::store::StoreError>(count)
        });
    }
    let mut all = 0;
    while let Some(count) = callers.join_next().await {
        all += count??;
    }
    let rate = all as f64 / began.elapsed().as_secs_f64();
    store.close().await;
    Ok(rate)
}

/// Fills the queue in bulk; how many a second.
async fn fill(store: &Store, count: usize) -> Outcome<f64> {
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..BULK_CALLERS {
        let (store, next) = (store.clone(), Arc::clone(&next));
        callers.spawn(async move {
            loop {
                let first = next.fetch_add(BULK as u64, Ordering::Relaxed);
                if first >= count as u64 {
                    return Ok::<_, dispatcher::store::StoreError>(());
                }
                let last = (first + BULK as u64).min(count as u64);
                store.accept((first..last).map(work::by_email).collect()).await?;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// A dispatcher whose mails all arrive at once.
async fn start(store: &Store, metrics: &Metrics, config: &DispatcherConfig) -> Outcome<Dispatcher> {
    let (_, receipts) = in_memory(1024);
    Ok(Dispatcher::start(Parts {
        config: config.clone(),
        store: store.clone(),
        bus: Bus::Memory(MemoryBus::new(BusLimits::default())),
        receipts,
        channels: Channels::in_memory([(Channel::Email, MemoryChannel::accepting(HELD))]),
        metrics: metrics.clone(),
        spool: None,
        keyring: Keyring::new(store.clone(), None),
        settings: Settings::new(store.clone(), Resolver::fixed(config.clone()))?,
        exclusive: true,
    })
    .await)
}

/// Waits until so many were sent in all.
async fn sent(metrics: &Metrics, count: u64) -> Outcome<()> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = metrics.sent_all.get();
        if now >= count {
            return Ok(());
        }
        if now > last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > STUCK {
            return Err(format!("{now} of {count} were sent, and no more").into());
        }
        sleep(LOOK).await;
    }
}

/// Accepts in bulk, then starts a dispatcher: accepted a second, and through the queue a second.
pub(crate) async fn through(database: &Database, count: usize) -> Outcome<(f64, f64)> {
    let store = database.open().await?;
    let filled = fill(&store, count).await?;
    let metrics = Metrics::new();
    let began = Instant::now();
    let dispatcher = start(&store, &metrics, &DispatcherConfig::default()).await?;
    sent(&metrics, count as u64).await?;
    let through = count as f64 / began.elapsed().as_secs_f64();
    dispatcher.stop().await;
    store.close().await;
    Ok((filled, through))
}

/// Works at a rate while nothing can be forgotten that was there at the beginning; then what goes through in a burst against
/// a burst before, as per cent lost.
pub(crate) async fn pinned(database: &Database, count: usize, time: Duration, rate: f64) -> Outcome<f64> {
    let burst = count / 2;
    let (_, before) = through(database, burst).await?;
    let pin = database.pin()?;
    let store = database.open().await?;
    let metrics = Metrics::new();
    let dispatcher = start(&store, &metrics, &DispatcherConfig::default()).await?;
    let service = dispatcher.service();
    let began = Instant::now();
    let mut accepted = 0_u64;
    while began.elapsed() < time {
        let due = (began.elapsed().as_secs_f64() * rate) as u64;
        if due > accepted {
            let last = due.min(accepted + BULK as u64);
            service
                .accept((accepted..last).map(work::by_email).collect())
                .await?;
            accepted = last;
        } else {
            sleep(LOOK).await;
        }
    }
    let reached = accepted as f64 / began.elapsed().as_secs_f64();
    sent(&metrics, accepted).await?;
    println!("  pinned: {reached:.0} of {rate:.0} a second were accepted and sent");
    dispatcher.stop().await;
    store.close().await;
    let (_, after) = through(database, burst).await?;
    drop(pin);
    println!("  a burst: {before:.0}/s before, {after:.0}/s with the snapshot held");
    Ok(100.0 * (1.0 - after / before))
}
