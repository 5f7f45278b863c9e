//! Keys in memory, for tests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::{BoxFuture, FutureExt};

use super::{KeyRecord, KeySource, SourceError};
use crate::token::KeyId;

/// Keys in memory, which can be away. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct MemoryKeys(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    records: HashMap<KeyId, KeyRecord>,
    away: bool,
    reads: usize,
}

impl MemoryKeys {
    /// Puts a key in, or changes it.
    pub fn put(&self, record: KeyRecord) {
        self.state().records.insert(record.id, record);
    }

    /// Whether it can be read.
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    /// How often it was read, also in vain.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.state().reads
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySource for MemoryKeys {
    fn read<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<KeyRecord>>, SourceError>> {
        let mut state = self.state();
        state.reads += 1;
        let answer = if state.away {
            Err(SourceError("away".to_owned()))
        } else {
            Ok(ids.iter().map(|id| state.records.get(id).cloned()).collect())
        };
        std::future::ready(answer).boxed()
    }
}
