//! The connection to the server that has the spool: scripts in one go, and whether enough replicas have what they wrote.

use std::{sync::Arc, time::Duration};

use common::redis::{ClientError, RedisConfig, client, keep_connected};
use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::ClientLike,
    types::{CustomCommand, Value},
};
use tokio::task::AbortHandle;

use super::names::Names;

/// Why Redis is not known to have done it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    #[error("redis: {0}")]
    Redis(String),
    #[error("redis: {has} of {wanted} replicas have it")]
    Replicas { has: i64, wanted: u8 },
}

/// One script to run.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) script: &'static str,
    pub(super) keys: Vec<String>,
    pub(super) arguments: Vec<Value>,
}

impl Call {
    pub(super) fn new(script: &'static str, keys: &[&str]) -> Self {
        Self {
            script,
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            arguments: Vec::new(),
        }
    }

    pub(super) fn with(mut self, argument: impl Into<Value>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    fn into_words(self) -> Vec<Value> {
        let mut words = Vec::with_capacity(2 + self.keys.len() + self.arguments.len());
        words.push(self.script.into());
        words.push(self.keys.len().to_string().into());
        words.extend(self.keys.into_iter().map(Value::from));
        words.extend(self.arguments);
        words
    }
}

/// Cheap to clone; the connection ends with the last one.
#[derive(Debug, Clone)]
pub(super) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    connection: AbortHandle,
    names: Names,
    replicas: u8,
    replica_wait: Duration,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Link {
    /// Connects, and goes on trying. Needs a runtime.
    ///
    /// # Errors
    /// [`ClientError`]: the configuration cannot be used.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, ClientError> {
        let client = client(config)?;
        let connection = keep_connected(&client);
        Ok(Self(Arc::new(Inner {
            client,
            connection,
            names: Names::new(&config.prefix),
            replicas: config.replicas(),
            // Its answer has to come before the command counts as unanswered.
            replica_wait: config.timeout.0 / 2,
        })))
    }

    pub(super) fn names(&self) -> &Names {
        &self.0.names
    }

    /// Replicas that have to have what is written.
    pub(super) fn replicas(&self) -> u8 {
        self.0.replicas
    }

    /// Runs scripts in order, over one connection; one answer for each. They count as done only when enough replicas have
    /// what was written: a repeat by another connection writes as well, so that it waits for the first try's write.
    ///
    /// # Errors
    /// [`LinkError`]: none, some or all may be done.
    pub(super) async fn commit(&self, calls: Vec<Call>) -> Result<Vec<Result<Value, LinkError>>, LinkError> {
        self.run_all(calls, self.0.replicas).await
    }

    async fn run_all(
        &self,
        calls: Vec<Call>,
        wanted: u8,
    ) -> Result<Vec<Result<Value, LinkError>>, LinkError> {
        let count = calls.len();
        let pipeline = self.0.client.pipeline();
        let hash = self.0.names.entries.as_str();
        for call in calls {
            let command = CustomCommand::new_static("EVAL", hash, false);
            let () = pipeline
                .custom(command, call.into_words())
                .await
                .map_err(|error| redis(&error))?;
        }
        if wanted > 0 {
            let wait = CustomCommand::new_static("WAIT", hash, false);
            let millis = i64::try_from(self.0.replica_wait.as_millis()).unwrap_or(i64::MAX);
            let () = pipeline
                .custom(wait, vec![i64::from(wanted), millis])
                .await
                .map_err(|error| redis(&error))?;
        }
        let mut answers = pipeline.try_all::<Value>().await;
        if answers.len() != count + usize::from(wanted > 0) {
            return Err(LinkError::Redis("the connection was lost".to_owned()));
        }
        if let Some(error) = answers
            .iter()
            .filter_map(|answer| answer.as_ref().err())
            .find(|error| is_whole(error))
        {
            let error = error.clone();
            self.look_elsewhere(&error).await;
            return Err(redis(&error));
        }
        if wanted > 0 {
            let has = answers
                .pop()
                .and_then(Result::ok)
                .and_then(|value| value.as_i64())
                .unwrap_or_default();
            if has < i64::from(wanted) {
                return Err(LinkError::Replicas { has, wanted });
            }
        }
        Ok(answers
            .into_iter()
            .map(|answer| answer.map_err(|error| redis(&error)))
            .collect())
    }

    /// Runs one script whose loss in a fail-over changes nothing for good.
    ///
    /// # Errors
    /// [`LinkError`]: it may be done.
    pub(super) async fn run(&self, call: Call) -> Result<Value, LinkError> {
        self.run_all(vec![call], 0)
            .await?
            .pop()
            .unwrap_or_else(|| Err(LinkError::Redis("no answer".to_owned())))
    }

    /// Asks the server that has the spool something else.
    ///
    /// # Errors
    /// [`LinkError`].
    pub(super) async fn ask(&self, command: &'static str, words: &[&str]) -> Result<Value, LinkError> {
        let command = CustomCommand::new_static(command, self.0.names.entries.as_str(), false);
        let words: Vec<Value> = words.iter().map(|word| (*word).into()).collect();
        self.0
            .client
            .custom(command, words)
            .await
            .map_err(|error| redis(&error))
    }

    /// A server that is no primary any more keeps its connections.
    async fn look_elsewhere(&self, error: &Error) {
        if error.details().starts_with("READONLY")
            && let Err(error) = self.0.client.force_reconnection().await
        {
            tracing::debug!(%error, "the connection to the spool was not made anew");
        }
    }
}

/// It says something of the connection or the server, not of one script.
fn is_whole(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Timeout
            | ErrorKind::IO
            | ErrorKind::Canceled
            | ErrorKind::Auth
            | ErrorKind::Cluster
            | ErrorKind::Sentinel
            | ErrorKind::Protocol
            | ErrorKind::Tls
            | ErrorKind::Backpressure
    ) || error.details().starts_with("READONLY")
}

fn redis(error: &Error) -> LinkError {
    LinkError::Redis(error.to_string())
}

/// The parts of an answer that is a list.
pub(super) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

/// An answer that is a text.
pub(super) fn text(value: &Value) -> Option<String> {
    value.as_string()
}

/// An answer that is a number; 0 where it is none.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}
