//! Notifications that other systems write into a table in their own transactions.
//!
//! A look takes rows that nobody else looks at (SKIP LOCKED), takes them in, and deletes them, in one transaction of the
//! database that has the table. Where that ends after the notifications were stored and before the rows are gone, they are
//! read again, and our database knows them by their table, number and time.

mod rows;

use std::{str::FromStr, sync::Arc, time::Duration};

use common::ids::TenantId;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;

use self::rows::{Outcome, Row};
use super::intake::{Candidate, Fate, Halt, take_in};
use crate::{
    api::{ApiState, Refusal},
    config::OutboxConfig,
    events::{NOTIFICATION, value},
    metrics::{EventLabel, Metrics},
    model::{Event, EventPlace},
};

/// How long the table's database may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between tries for a connection, and while the queue is full or our database away.
const PAUSE: Duration = Duration::from_millis(500);

/// What tells of new rows.
const CHANNEL: &str = "carillon_outbox";

/// The source of a row's key.
const SOURCE: &str = "outbox";

/// Reads until it is stopped; a look that was begun is finished.
pub(crate) async fn run(
    api: ApiState,
    config: OutboxConfig,
    url: SecretString,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let options = match PgConnectOptions::from_str(url.expose_secret()) {
        Ok(options) => options.application_name("carillon outbox"),
        Err(_) => {
            tracing::error!("the outbox is not read: outbox.database_url cannot be read");
            return;
        }
    };
    let outbox = Outbox {
        origin: format!("outbox:{}", config.table).into(),
        api,
        config,
        options,
        metrics,
        stop,
    };
    outbox.run().await;
}

struct Outbox {
    origin: Arc<str>,
    api: ApiState,
    config: OutboxConfig,
    options: PgConnectOptions,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Outbox {
    async fn run(self) {
        let mut was_there = true;
        while !self.stop.is_cancelled() {
            let error = match self.connected().await {
                Ok(()) => return,
                Err(error) => error,
            };
            if was_there {
                tracing::warn!(%error, "the outbox is not read at the moment; it is tried again");
            }
            was_there = false;
            self.rest(PAUSE).await;
        }
    }

    /// Reads over one connection until it breaks. Ok: it was stopped.
    async fn connected(&self) -> Result<(), sqlx::Error> {
        let connecting = PgConnection::connect_with(&self.options);
        let mut conn = tokio::time::timeout(PATIENCE, connecting)
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)??;
        if self.config.create_table && self.config.has_default_name() {
            rows::make_table(&mut conn).await?;
        }
        // Behind a pooler nobody is told; then rows are found by looking.
        let mut hints = self.hints().await;
        while !self.stop.is_cancelled() {
            let look = tokio::time::timeout(PATIENCE * 3, self.look(&mut conn));
            let (found, halt) = look.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
            if halt.is_some() {
                self.rest(PAUSE).await;
            } else if found < self.config.batch_max as usize {
                let told = async {
                    match &mut hints {
                        Some(listener) => listener.recv().await.map(drop),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = self.rest(self.config.poll.0) => {}
                    told = told => if told.is_err() {
                        hints = None;
                    }
                }
            }
        }
        conn.close().await
    }

    async fn hints(&self) -> Option<PgListener> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(self.options.clone());
        let mut listener = PgListener::connect_with(&pool).await.ok()?;
        listener.listen(CHANNEL).await.ok()?;
        Some(listener)
    }

    async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Takes in what is there. Answers how many rows were seen, and why some of them wait.
    async fn look(&self, conn: &mut PgConnection) -> Result<(usize, Option<Halt>), sqlx::Error> {
        let mut transaction = conn.begin().await?;
        let rows = rows::due(&mut transaction, &self.config).await?;
        let found = rows.len();
        if found == 0 {
            transaction.rollback().await?;
            return Ok((0, None));
        }
        let (outcomes, halt) = self.judge(rows).await;
        rows::settle(&mut transaction, &self.config, &outcomes).await?;
        transaction.commit().await?;
        Ok((found, halt))
    }

    async fn judge(&self, rows: Vec<Row>) -> (Vec<(i64, Outcome)>, Option<Halt>) {
        let mut outcomes = Vec::with_capacity(rows.len());
        let mut candidates = Vec::with_capacity(rows.len());
        let mut tried = Vec::with_capacity(rows.len());
        for row in rows {
            match self.candidate(&row) {
                Ok(candidate) => {
                    candidates.push(candidate);
                    tried.push(row);
                }
                // No second try makes another row of it.
                Err(error) => outcomes.push((row.id, self.count("dead", Outcome::Failed(error)))),
            }
        }
        let taken = take_in(&self.api, candidates).await;
        for (row, fate) in tried.into_iter().zip(taken.fates) {
            let outcome = match fate {
                Fate::Stored => self.count("stored", Outcome::Done),
                Fate::Repeated => self.count("repeated", Outcome::Done),
                Fate::Ignored => self.count("ignored", Outcome::Done),
                Fate::Refused(refusal) => self.refused(&row, &refusal),
                Fate::Behind | Fate::Waits => continue,
            };
            outcomes.push((row.id, outcome));
        }
        (outcomes, taken.halt)
    }

    fn refused(&self, row: &Row, refusal: &Refusal) -> Outcome {
        let problem = &refusal.problem;
        let place = problem
            .field
            .as_ref()
            .map(|field| format!(" ({field})"))
            .unwrap_or_default();
        let rule = refusal
            .rule
            .as_ref()
            .map(|rule| format!(" [rule {rule}]"))
            .unwrap_or_default();
        let error = format!("{}{place}{rule}: {}", problem.code, problem.detail);
        let attempts = usize::try_from(row.attempts).unwrap_or_default();
        match self.config.retry.get(attempts) {
            Some(pause) => self.count("retried", Outcome::Again(error, pause.0)),
            None => self.count("dead", Outcome::Failed(error)),
        }
    }

    fn count(&self, result: &'static str, outcome: Outcome) -> Outcome {
        let label = EventLabel {
            source: SOURCE,
            result,
        };
        self.metrics.events.get_or_create(&label).inc();
        outcome
    }

    fn candidate(&self, row: &Row) -> Result<Candidate<i64>, String> {
        let tenant = TenantId::new(&row.tenant).map_err(|error| format!("invalid_tenant: {error}"))?;
        let body: serde_json::Value =
            serde_json::from_str(&row.body).map_err(|error| format!("invalid_json: {error}"))?;
        let is_event = body.get("event_type").is_some() || body.get("specversion").is_some();
        let mut event = if is_event {
            value(body).map_err(|error| format!("{}: {}", error.code, error.detail))?
        } else {
            Event {
                kind: NOTIFICATION.to_owned(),
                id: None,
                source: None,
                tenant: None,
                subject: None,
                time: None,
                data: body,
            }
        };
        if let Some(key) = &row.dedup_key {
            event.id = Some(key.clone());
            event.source = Some(SOURCE.to_owned());
        }
        event.source.get_or_insert_with(|| SOURCE.to_owned());
        Ok(Candidate {
            place: EventPlace {
                origin: Arc::clone(&self.origin),
                position: row.id,
                stamped: row.created_at,
            },
            key: row.id,
            tenant,
            event,
        })
    }
}
