//! The board: keys as dispatchers show them to hubs, which have no database. A hash in Redis, `{prefix}:keys`.
//!
//! A field for each key holds its revision and its record; who writes a key puts no older revision over a newer one, so that
//! any dispatcher may write at any time. The field [`MARKER`] says up to which revision the board is whole. Without it the board
//! was lost, and a key that is not on it may be one: dispatchers look at it, and fill the board again.

use std::sync::Arc;

use fred::{
    clients::Client,
    interfaces::{ClientLike, HashesInterface, KeysInterface, LuaInterface},
};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::task::AbortHandle;

use super::{KeyRecord, KeySource, SourceError};
use crate::{
    redis::{ClientError, RedisConfig, client, keep_connected},
    token::KeyId,
};

/// The field that says up to which revision the board is whole. No id is so short.
const MARKER: &str = "revision";

/// Keys that are written by one script.
const ROUND: usize = 500;

/// KEYS: the board. ARGV: the revision up to which it is whole then, or -1; and for each key id, revision, record.
const WRITE: &str = r"
for i = 2, #ARGV, 3 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  local was = old and tonumber(string.match(old, '^%d+')) or -1
  if was <= tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2])
  end
end
local whole = tonumber(redis.call('HGET', KEYS[1], 'revision') or '-1')
if tonumber(ARGV[1]) > whole then
  redis.call('HSET', KEYS[1], 'revision', ARGV[1])
end
return 1
";

/// The board could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("redis: {0}")]
pub struct BoardError(#[from] fred::error::Error);

/// The board in Redis. Cheap to clone; the connection ends with the last one.
#[derive(Debug, Clone)]
pub struct KeyBoard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    connection: AbortHandle,
    key: String,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl KeyBoard {
    /// Connects, and goes on trying. Needs a runtime.
    ///
    /// # Errors
    /// [`ClientError`]: the configuration cannot be used.
    pub fn connect(config: &RedisConfig) -> Result<Self, ClientError> {
        let client = client(config)?;
        let connection = keep_connected(&client);
        Ok(Self(Arc::new(Inner {
            client,
            connection,
            key: format!("{}:keys", config.prefix),
        })))
    }

    /// Up to which revision the board is whole; none where it is not filled.
    ///
    /// # Errors
    /// [`BoardError`].
    pub async fn revision(&self) -> Result<Option<i64>, BoardError> {
        let text: Option<String> = self.done(self.0.client.hget(&self.0.key, MARKER).await).await?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// Shows keys, but for those that the board knows of a newer revision. `whole`: up to that revision these are all changes since
    /// [`Self::revision`].
    ///
    /// # Errors
    /// [`BoardError`]: some, all or none may be shown.
    pub async fn show(&self, records: &[KeyRecord], whole: Option<i64>) -> Result<(), BoardError> {
        let rounds = records.chunks(ROUND).map(<[KeyRecord]>::to_vec);
        for round in rounds {
            self.write(&round, -1).await?;
        }
        match whole {
            // Last, as the keys are there then.
            Some(revision) => self.write(&[], revision).await,
            None => Ok(()),
        }
    }

    /// Takes keys that are forgotten away.
    ///
    /// # Errors
    /// [`BoardError`].
    pub async fn forget(&self, ids: &[KeyId]) -> Result<(), BoardError> {
        if ids.is_empty() {
            return Ok(());
        }
        let fields: Vec<&str> = ids.iter().map(KeyId::as_str).collect();
        self.done(self.0.client.hdel(&self.0.key, fields).await).await
    }

    /// Takes everything away: the database is another one, or was put back to an earlier day.
    ///
    /// # Errors
    /// [`BoardError`].
    pub async fn clear(&self) -> Result<(), BoardError> {
        self.done(self.0.client.del(&self.0.key).await).await
    }

    async fn write(&self, records: &[KeyRecord], whole: i64) -> Result<(), BoardError> {
        let mut words = vec![whole.to_string()];
        for record in records {
            // Names, numbers and texts can be written as JSON.
            let text = serde_json::to_string(record).unwrap_or_default();
            words.extend([record.id.to_string(), record.revision.to_string(), text]);
        }
        let written = self.0.client.eval(WRITE, vec![self.0.key.clone()], words).await;
        self.done(written).await
    }

    /// A server that is no primary any more keeps its connections.
    async fn done<T>(&self, answer: Result<T, fred::error::Error>) -> Result<T, BoardError> {
        if let Err(error) = &answer
            && error.details().starts_with("READONLY")
            && let Err(error) = self.0.client.force_reconnection().await
        {
            tracing::debug!(%error, "the connection to the board of keys was not made anew");
        }
        Ok(answer?)
    }
}

impl KeySource for KeyBoard {
    fn read<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<KeyRecord>>, SourceError>> {
        async move {
            let fields: Vec<&str> = [MARKER]
                .into_iter()
                .chain(ids.iter().map(KeyId::as_str))
                .collect();
            let answer = self.0.client.hmget(&self.0.key, fields).await;
            let texts: Vec<Option<String>> = self
                .done(answer)
                .await
                .map_err(|error| SourceError(error.to_string()))?;
            let Some((Some(_), texts)) = texts.split_first() else {
                return Err(SourceError(
                    "no dispatcher has shown its keys in Redis yet".to_owned(),
                ));
            };
            Ok(texts.iter().map(|text| record(text.as_deref()?)).collect())
        }
        .boxed()
    }
}

/// A field as it was written; none where it is of nobody who writes such.
fn record(text: &str) -> Option<KeyRecord> {
    let (_, json) = text.split_once(' ')?;
    serde_json::from_str(json)
        .inspect_err(|error| tracing::error!(%error, "a key on the board cannot be read"))
        .ok()
}
