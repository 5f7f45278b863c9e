//! API keys: kept in the store, and shown to hubs on the board, where there is one.
//!
//! A change is shown before it is answered. Where that fails, or a process dies between the two, or Redis loses what it had, the
//! board's own revision tells: every dispatcher looks at it now and then, and at once after a change, and shows what is
//! missing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    audit::Origin,
    credential::{BoardError, KeyBoard, KeyRecord, KeySource, KeyUse, SourceError},
    ids::TenantId,
    token::{KeyHash, KeyId},
};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{ApiKey, KeyMade, KeyRotated, Micros, NewApiKey},
    store::{Store, StoreError},
};

/// How often the board is looked at, and when after something failed.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long a change waits to be shown before it is answered.
const SHOW_TIME: Duration = Duration::from_secs(1);

/// Keys that are read at once.
const PAGE: u32 = 1000;

/// Uses that may wait to be written, and how long they are gathered.
const USES: usize = 1024;
const GATHER: Duration = Duration::from_secs(1);

/// The keys. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keyring(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    board: Option<KeyBoard>,
    uses: mpsc::Sender<KeyUse>,
    /// Until the keyring runs.
    used: Mutex<Option<mpsc::Receiver<KeyUse>>>,
}

/// Why the board is not as it should be.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Board(#[from] BoardError),
}

impl Keyring {
    /// The keys of this store, shown on this board.
    #[must_use]
    pub fn new(store: Store, board: Option<KeyBoard>) -> Self {
        let (uses, used) = mpsc::channel(USES);
        Self(Arc::new(Inner {
            store,
            board,
            uses,
            used: Mutex::new(Some(used)),
        }))
    }

    /// Where uses of keys are told.
    #[must_use]
    pub fn uses(&self) -> mpsc::Sender<KeyUse> {
        self.0.uses.clone()
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`StoreError`]: there is none.
    pub async fn create(&self, new: NewApiKey, by: &Origin) -> Result<KeyMade, StoreError> {
        let id = new.key.id;
        let made = self.0.store.create_key(new, by).await?;
        self.show(id).await;
        if let Some(board) = &self.0.board
            && !made.forgotten.is_empty()
        {
            noted(timeout(SHOW_TIME, board.forget(&made.forgotten)).await);
        }
        Ok(made)
    }

    /// Gives a key another secret; the one before counts until then.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub async fn rotate(
        &self,
        tenant: Option<TenantId>,
        id: KeyId,
        hash: KeyHash,
        previous_until: Micros,
        by: &Origin,
    ) -> Result<KeyRotated, StoreError> {
        let rotated = self
            .0
            .store
            .rotate_key(tenant, id, hash, previous_until, by)
            .await?;
        self.show(id).await;
        Ok(rotated)
    }

    /// Takes a key back. The key as it is then; none where there is none.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub async fn revoke(
        &self,
        tenant: Option<TenantId>,
        id: KeyId,
        by: &Origin,
    ) -> Result<Option<ApiKey>, StoreError> {
        let revoked = self.0.store.revoke_key(tenant, id, by).await?;
        self.show(id).await;
        Ok(revoked)
    }

    /// Shows a key as it is now. Where that fails, the next look does it.
    async fn show(&self, id: KeyId) {
        let Some(board) = &self.0.board else { return };
        let shown = async {
            let records = self.0.store.key_records(&[id]).await?;
            board.show(&records, None).await?;
            Ok::<_, ShowError>(())
        };
        noted(timeout(SHOW_TIME, shown).await);
    }

    /// Shows what is missing, and writes uses, until the stop.
    pub(crate) async fn run(self, revised: watch::Receiver<i64>, stop: CancellationToken) {
        let used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner).take();
        tokio::join!(self.keep_shown(revised, &stop), async {
            if let Some(used) = used {
                self.keep_used(used, &stop).await;
            }
        });
    }

    async fn keep_shown(&self, mut revised: watch::Receiver<i64>, stop: &CancellationToken) {
        let Some(board) = &self.0.board else { return };
        let mut failed = false;
        while !stop.is_cancelled() {
            let known = *revised.borrow_and_update();
            let wait = match self.look(board, known).await {
                Ok(()) => {
                    failed = false;
                    LOOK
                }
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(%error, "changes of API keys cannot be shown to hubs");
                    }
                    LOOK_AGAIN
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                changed = revised.changed() => if changed.is_err() { return },
                () = sleep(wait) => {}
            }
        }
    }

    /// Brings the board to the store's revision. `known`: what the store's was a moment ago, where that is known.
    async fn look(&self, board: &KeyBoard, known: i64) -> Result<(), ShowError> {
        let shown = board.revision().await?;
        if shown == Some(known) && known > 0 {
            return Ok(());
        }
        let mut after = shown.unwrap_or(-1);
        loop {
            let (revision, changed) = self.0.store.changed_keys(after, PAGE).await?;
            if shown == Some(after) && after > revision {
                tracing::warn!("the board shows newer API keys than the database has; it is filled anew");
                board.clear().await?;
                after = -1;
                continue;
            }
            if changed.len() < PAGE as usize {
                if !changed.is_empty() || shown != Some(revision) {
                    board.show(&changed, Some(revision)).await?;
                    tracing::debug!(revision, keys = changed.len(), "API keys are shown to hubs");
                }
                return Ok(());
            }
            board.show(&changed, None).await?;
            after = changed.last().map_or(revision, |last| last.revision);
        }
    }

    async fn keep_used(&self, mut used: mpsc::Receiver<KeyUse>, stop: &CancellationToken) {
        let mut batch = Vec::new();
        loop {
            let taken = stop.run_until_cancelled(used.recv_many(&mut batch, USES)).await;
            if taken.is_none_or(|taken| taken == 0) {
                return;
            }
            // Others come with it, as callers do.
            stop.run_until_cancelled(sleep(GATHER)).await;
            while batch.len() < USES
                && let Ok(more) = used.try_recv()
            {
                batch.push(more);
            }
            if let Err(error) = self.0.store.note_key_uses(std::mem::take(&mut batch)).await {
                // The next minute tells again.
                tracing::debug!(%error, "uses of API keys are not noted");
            }
        }
    }
}

/// Says where something was not shown in time.
fn noted<E: std::fmt::Display>(shown: Result<Result<(), E>, tokio::time::error::Elapsed>) {
    let reason = match shown {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "Redis gave no answer in time".to_owned(),
    };
    tracing::warn!(reason, "hubs are told of a change of an API key a little later");
}

impl KeySource for Keyring {
    fn read<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<KeyRecord>>, SourceError>> {
        async move {
            let found = self.0.store.key_records(ids).await;
            let found = found.map_err(|error| SourceError(error.to_string()))?;
            let mut found: HashMap<KeyId, KeyRecord> =
                found.into_iter().map(|record| (record.id, record)).collect();
            Ok(ids.iter().map(|id| found.remove(id)).collect())
        }
        .boxed()
    }
}
