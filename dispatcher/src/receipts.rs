//! What readers do, from sockets and from the API alike: stored, then told to the reader's other devices.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use common::{
    audit::AuditEntry,
    ids::{MessageId, Name, NotificationId, TenantId},
    receipts::{Reader, Receipt, ReceiptStream},
    topic::{TopicKey, TopicKind},
};
use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::{
    fail_point,
    keyring::Keyring,
    metrics::Metrics,
    model::{Cursor, Micros, ReaderKeys},
    realtime::Realtime,
    store::{Mark, Marked, ReadAll, Store, StoreError},
};

/// Receipts that are taken at once.
const BATCH: usize = 1024;

/// Readers whose receipts are stored at once.
const READERS_AT_ONCE: usize = 64;

/// Tries of one receipt, over some seconds, before its batch goes back to the stream.
const TRIES: u32 = 8;

/// How far the clocks of a hub and of this process may be apart: what arrives so soon after a read-all may be taken for
/// read, rather than leaving unread what the reader saw.
const CLOCKS: Duration = Duration::from_secs(2);

/// The one place where what a reader did is stored and told. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    store: Store,
    realtime: Realtime,
    keyring: Keyring,
}

impl Readers {
    pub(crate) fn new(store: Store, realtime: Realtime, keyring: Keyring) -> Self {
        Self {
            store,
            realtime,
            keyring,
        }
    }

    /// Marks notifications for a reader. `session`: the socket that said so, which is not told again.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub(crate) async fn mark(
        &self,
        reader: &ReaderKeys,
        session: Option<&str>,
        ids: Vec<NotificationId>,
        mark: Mark,
    ) -> Result<Marked, StoreError> {
        let marked = self.store.mark(reader, ids, mark).await?;
        if let Some(state) = told_state(mark)
            && !marked.changed.is_empty()
        {
            let user = TopicKey::user(&reader.tenant, &reader.user);
            self.realtime
                .publish_changed(&user, Some(&marked.changed), state, session);
            self.realtime.publish_unread(&user, marked.unread);
        }
        Ok(marked)
    }

    /// Marks everything as read, up to a cursor or to now.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub(crate) async fn mark_all_read(
        &self,
        reader: &ReaderKeys,
        up_to: Option<&Cursor>,
    ) -> Result<ReadAll, StoreError> {
        let read = self.store.mark_all_read(reader, up_to).await?;
        self.tell_all_read(reader, None, read).await;
        Ok(read)
    }

    /// Marks everything as read that was visible when a socket said so.
    async fn mark_all_read_by(
        &self,
        reader: &ReaderKeys,
        session: &str,
        said: Micros,
    ) -> Result<(), StoreError> {
        let read = self.store.mark_all_read_by(reader, said.plus(CLOCKS)).await?;
        self.tell_all_read(reader, Some(session), read).await;
        Ok(())
    }

    async fn tell_all_read(&self, reader: &ReaderKeys, session: Option<&str>, read: ReadAll) {
        if read.count > 0 {
            let user = TopicKey::user(&reader.tenant, &reader.user);
            self.realtime.publish_changed(&user, None, "read", session);
            self.realtime.publish_unread(&user, read.unread);
        }
    }
}

/// The state that other devices are told; none for marks that show nowhere.
fn told_state(mark: Mark) -> Option<&'static str> {
    match mark {
        Mark::Delivered | Mark::Seen => None,
        Mark::Read | Mark::Acknowledged => Some("read"),
        Mark::Unread => Some("unread"),
        Mark::Archived => Some("archived"),
        Mark::Unarchived => Some("unarchived"),
        Mark::Snoozed(_) => Some("snoozed"),
        Mark::Woken(_) => Some("unsnoozed"),
        Mark::Deleted => Some("deleted"),
    }
}

/// Works the hubs' receipts off until the stream ends, or until the stop and what the stream had taken in then. A slow
/// store slows the stream, and with it, where nothing lies between, the sockets that send receipts.
pub(crate) async fn run(
    mut stream: ReceiptStream,
    readers: Readers,
    realtime: Realtime,
    metrics: Metrics,
    exclusive: bool,
    stop: CancellationToken,
) {
    loop {
        let batch = match stop.run_until_cancelled(stream.next_batch(BATCH)).await {
            Some(batch) => batch,
            None => {
                stream.close();
                stream.next_batch(BATCH).await
            }
        };
        let Some(batch) = batch else { return };
        metrics.receipts.inc_by(batch.receipts.len() as u64);
        fail_point::reached("receipts", "before_store");
        if store(&readers, &realtime, &batch.receipts, exclusive).await {
            fail_point::reached("receipts", "before_done");
            stream.done(batch).await;
        } else if stop.is_cancelled() {
            let receipts = batch.receipts.len();
            tracing::warn!(receipts, "receipts were left at the stop, as the store took none");
            return;
        } else {
            // The tries took their time.
            stream.give_back(batch);
        }
    }
}

/// Stores a batch. False: the store is away, and some of it is not stored; all of it may be stored again.
///
/// The process that published a frame has it in memory and settles it. Where there are others (`exclusive` is false), each
/// gets some of the receipts, and ends in the database what is not its own.
async fn store(readers: &Readers, realtime: &Realtime, batch: &[Receipt], exclusive: bool) -> bool {
    let mut elsewhere = Vec::new();
    let mut entries = Vec::new();
    // One reader's receipts stay in order; readers do not wait for each other.
    let mut by_reader: HashMap<_, Vec<Receipt>> = HashMap::new();
    for receipt in batch {
        match receipt {
            Receipt::Written { key, id } => {
                if !realtime.received(key, *id).await {
                    elsewhere
                        .extend(whose_topic(key).map(|(tenant, user)| (tenant, user, NotificationId(id.0))));
                }
            }
            Receipt::Delivered { reader, ids } => {
                let user = TopicKey::user(&reader.tenant, &reader.user);
                for id in ids {
                    if !realtime.received(&user, *id).await {
                        let (tenant, user) = whose(reader);
                        elsewhere.push((tenant, user, NotificationId(id.0)));
                    }
                }
                by_reader.entry(whose(reader)).or_default().push(receipt.clone());
            }
            Receipt::Audit { entry } => entries.push(AuditEntry::clone(entry)),
            // Where there is no room, the next minute tells.
            Receipt::KeyUsed(used) => drop(readers.keyring.uses().try_send(used.clone())),
            Receipt::Seen { reader } | Receipt::Read { reader, .. } | Receipt::ReadAll { reader, .. } => {
                by_reader.entry(whose(reader)).or_default().push(receipt.clone());
            }
        }
    }
    if !exclusive && !elsewhere.is_empty() && !arrived(readers, elsewhere).await {
        return false;
    }
    if !entries.is_empty() && !recorded(readers, entries).await {
        return false;
    }
    let away = AtomicBool::new(false);
    stream::iter(by_reader.into_values())
        .for_each_concurrent(READERS_AT_ONCE, |receipts| {
            store_in_order(readers, receipts, &away)
        })
        .await;
    !away.into_inner()
}

/// Ends in the database what other processes published. False: the store is away.
async fn arrived(readers: &Readers, receipts: Vec<(TenantId, Name, NotificationId)>) -> bool {
    stored_together("receipts of frames", || {
        let (store, receipts) = (readers.store.clone(), receipts.clone());
        async move { store.received(receipts).await.map(drop) }
    })
    .await
}

/// Puts on record what operators did to sessions. False: the store is away.
async fn recorded(readers: &Readers, entries: Vec<AuditEntry>) -> bool {
    stored_together("entries of the audit log", || {
        let (store, entries) = (readers.store.clone(), entries.clone());
        async move { store.append_audit(entries).await }
    })
    .await
}

/// Tries a few times. False: the store is away.
async fn stored_together<Work>(what: &str, work: impl Fn() -> Work) -> bool
where
    Work: Future<Output = Result<(), StoreError>>,
{
    let mut pause = Duration::from_millis(50);
    for _ in 1..TRIES {
        match work().await {
            Ok(()) => return true,
            Err(StoreError::Unavailable { reason }) => {
                tracing::debug!(error = reason, "{what} wait for the store");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error) => {
                tracing::warn!(%error, "{what} could not be stored");
                return true;
            }
        }
    }
    tracing::warn!("the store takes no {what}; they wait");
    false
}

/// The user whose topic it is.
fn whose_topic(key: &TopicKey) -> Option<(TenantId, Name)> {
    let user = Name::new(&key.name()?).ok()?;
    let tenant = TenantId::new(key.tenant_id()?).ok()?;
    (key.kind() == TopicKind::User).then_some((tenant, user))
}

fn whose(reader: &Reader) -> (TenantId, Name) {
    (reader.tenant.clone(), reader.user.clone())
}

/// Stores one reader's receipts, unless the store is away.
async fn store_in_order(readers: &Readers, receipts: Vec<Receipt>, away: &AtomicBool) {
    for receipt in receipts {
        let mut pause = Duration::from_millis(50);
        for attempt in 1..=TRIES {
            if away.load(Ordering::Relaxed) {
                return;
            }
            match store_one(readers, &receipt).await {
                Ok(()) => break,
                Err(StoreError::Unavailable { reason }) if attempt < TRIES => {
                    tracing::debug!(error = reason, attempt, "a receipt waits for the store");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error @ StoreError::Unavailable { .. }) => {
                    if !away.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "the store takes no receipts; they wait");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a receipt could not be stored");
                    break;
                }
            }
        }
    }
}

async fn store_one(readers: &Readers, receipt: &Receipt) -> Result<(), StoreError> {
    match receipt {
        // Settled before.
        Receipt::Written { .. } | Receipt::Audit { .. } | Receipt::KeyUsed(_) => Ok(()),
        Receipt::Seen { reader } => readers.store.touch_reader(&keys(reader)).await,
        Receipt::Delivered { reader, ids } => {
            let keys = keys(reader);
            readers.store.touch_reader(&keys).await?;
            readers
                .mark(&keys, Some(&reader.session), notifications(ids), Mark::Delivered)
                .await
                .map(drop)
        }
        Receipt::Read { reader, ids } => {
            let keys = keys(reader);
            readers.store.touch_reader(&keys).await?;
            readers
                .mark(&keys, Some(&reader.session), notifications(ids), Mark::Read)
                .await
                .map(drop)
        }
        Receipt::ReadAll { reader, at_ms } => {
            let keys = keys(reader);
            readers.store.touch_reader(&keys).await?;
            let said = Micros(at_ms.saturating_mul(1000));
            readers.mark_all_read_by(&keys, &reader.session, said).await
        }
    }
}

fn keys(reader: &Reader) -> ReaderKeys {
    ReaderKeys {
        tenant: reader.tenant.clone(),
        user: reader.user.clone(),
        keys: reader.keys.to_vec(),
    }
}

/// A notification's message carries the notification's id; ids of other messages are no notification's, and the store
/// passes over them.
fn notifications(ids: &[MessageId]) -> Vec<NotificationId> {
    ids.iter().map(|id| NotificationId(id.0)).collect()
}
