//! The task of one partition: batches in order, retries by key, dead letters, and how far the offset may move.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use common::ids::TenantId;
use futures_util::future::join_all;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    message::{Headers, OwnedMessage},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    dead_letters::{Cause, DeadLetters},
    gate::Gate,
    watch::Watch,
};
use crate::{
    api::{ApiState, Refusal},
    config::KafkaConfig,
    events::message as read,
    ingest::{
        backlog::{Backlog, Item, Key},
        intake::{Candidate, Fate, Halt, take_in},
    },
    metrics::{EventLabel, Metrics},
    model::{Event, EventPlace},
};

/// How long a batch waits for room in the queue, or for the database, before it is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(500);
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// What the tasks of all partitions stand on.
pub(super) struct Site {
    pub(super) api: ApiState,
    pub(super) consumer: Arc<StreamConsumer<Watch>>,
    pub(super) dead_letters: DeadLetters,
    pub(super) metrics: Metrics,
    pub(super) config: KafkaConfig,
}

impl Site {
    fn count(&self, result: &'static str) {
        let label = EventLabel {
            source: "kafka",
            result,
        };
        self.metrics.events.get_or_create(&label).inc();
    }
}

/// One partition.
pub(super) struct Partition {
    site: Arc<Site>,
    topic: String,
    number: i32,
    origin: Arc<str>,
    inbox: mpsc::Receiver<OwnedMessage>,
    gate: Arc<Gate>,
    stop: CancellationToken,
    backlog: Backlog<OwnedMessage>,
    /// What was stored for the group last.
    stored: Option<i64>,
    hasher: RandomState,
}

/// An event with what is to become of it.
enum Verdict {
    Done(&'static str),
    Again(Refusal),
    Dead(Cause),
    Behind,
    Waits,
}

impl Partition {
    pub(super) fn new(
        site: Arc<Site>,
        (topic, number): (&str, i32),
        inbox: mpsc::Receiver<OwnedMessage>,
        gate: Arc<Gate>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            site,
            origin: format!("kafka:{topic}/{number}").into(),
            topic: topic.to_owned(),
            number,
            inbox,
            gate,
            stop,
            backlog: Backlog::default(),
            stored: None,
            hasher: RandomState::new(),
        }
    }

    /// Works until the partition goes, and finishes the batch at hand then.
    pub(super) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            self.fill();
            let batch = self.backlog.take(Instant::now(), self.site.config.batch_max);
            if batch.is_empty() {
                if !self.wait().await {
                    return;
                }
                continue;
            }
            let halt = self.work(batch).await;
            self.store_offset();
            let pause = match halt {
                None => continue,
                Some(Halt::Full) => FULL_PAUSE,
                Some(Halt::Away) => AWAY_PAUSE,
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes what has come, as far as there is room, and has the partition read on where it was not.
    fn fill(&mut self) {
        while self.backlog.len() < self.site.config.buffer
            && let Ok(message) = self.inbox.try_recv()
        {
            self.push(message);
        }
        if self.inbox.len() <= self.inbox.max_capacity() / 4 {
            self.gate.open(&self.site.consumer);
        }
    }

    fn push(&mut self, message: OwnedMessage) {
        let offset = message.offset();
        let key = match message.key() {
            Some(key) if !key.is_empty() => Key::Named(self.hasher.hash_one(key)),
            _ => Key::Alone(offset),
        };
        self.backlog.push(offset, key, message);
    }

    /// Waits for a message, or for the time of a retry. False: there is no more to do.
    async fn wait(&mut self) -> bool {
        let due = self.backlog.next_due();
        let has_room = self.backlog.len() < self.site.config.buffer;
        let time = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            message = self.inbox.recv(), if has_room => match message {
                Some(message) => {
                    self.push(message);
                    true
                }
                None => false,
            },
            () = time => true,
        }
    }

    async fn work(&mut self, batch: Vec<Item<OwnedMessage>>) -> Option<Halt> {
        let (verdicts, halt) = self.judge(&batch).await;
        let dead = batch
            .iter()
            .zip(&verdicts)
            .filter_map(|(item, verdict)| match verdict {
                Verdict::Dead(cause) => {
                    Some(self.site.dead_letters.put(&item.value, cause, item.attempts + 1))
                }
                _ => None,
            });
        let mut buried = join_all(dead).await.into_iter();
        let now = Instant::now();
        let mut halt = halt;
        let mut left = Vec::new();
        for (item, verdict) in batch.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Done(result) => {
                    self.site.count(result);
                    self.backlog.done(&item);
                }
                Verdict::Again(refusal) => {
                    let pause = self.site.config.retry[item.attempts as usize].0;
                    tracing::info!(
                        topic = self.topic,
                        partition = self.number,
                        offset = item.offset,
                        code = refusal.problem.code,
                        rule = refusal.rule,
                        "an event is tried again in {pause:?}"
                    );
                    self.site.count("retried");
                    self.backlog.again(item, now + pause);
                }
                Verdict::Dead(cause) => match buried.next() {
                    Some(Ok(())) => {
                        tracing::warn!(
                            topic = self.topic,
                            partition = self.number,
                            offset = item.offset,
                            code = cause.code,
                            rule = cause.rule,
                            "an event is a dead letter"
                        );
                        self.site.count("dead");
                        self.backlog.done(&item);
                    }
                    failed => {
                        if let Some(Err(error)) = failed {
                            tracing::warn!(%error, "a dead letter is not taken; it is tried again");
                        }
                        halt = halt.or(Some(Halt::Away));
                        left.push(item);
                    }
                },
                Verdict::Behind => self.backlog.behind(item),
                Verdict::Waits => left.push(item),
            }
        }
        self.backlog.give_back(left, now);
        halt
    }

    /// What is to become of each.
    async fn judge(&self, batch: &[Item<OwnedMessage>]) -> (Vec<Verdict>, Option<Halt>) {
        let mut verdicts: Vec<Option<Verdict>> = Vec::with_capacity(batch.len());
        let mut candidates = Vec::with_capacity(batch.len());
        for item in batch {
            match self.read(&item.value) {
                Ok((event, tenant)) => {
                    candidates.push(Candidate {
                        place: EventPlace {
                            origin: Arc::clone(&self.origin),
                            position: item.offset,
                            stamped: item.value.timestamp().to_millis().unwrap_or_default(),
                        },
                        key: item.key,
                        tenant,
                        event,
                    });
                    verdicts.push(None);
                }
                // No second try makes another event of it.
                Err(cause) => verdicts.push(Some(Verdict::Dead(cause))),
            }
        }
        let taken = take_in(&self.site.api, candidates).await;
        let mut fates = taken.fates.into_iter();
        let verdicts = verdicts
            .into_iter()
            .zip(batch)
            .map(|(verdict, item)| {
                verdict.unwrap_or_else(|| match fates.next() {
                    Some(Fate::Stored) => Verdict::Done("stored"),
                    Some(Fate::Repeated) => Verdict::Done("repeated"),
                    Some(Fate::Ignored) => Verdict::Done("ignored"),
                    Some(Fate::Behind) => Verdict::Behind,
                    Some(Fate::Waits) | None => Verdict::Waits,
                    Some(Fate::Refused(refusal)) => self.refused(item, refusal),
                })
            })
            .collect();
        (verdicts, taken.halt)
    }

    fn refused(&self, item: &Item<OwnedMessage>, refusal: Refusal) -> Verdict {
        if (item.attempts as usize) < self.site.config.retry.len() {
            return Verdict::Again(refusal);
        }
        let problem = *refusal.problem;
        Verdict::Dead(Cause {
            code: problem.code.to_owned(),
            reason: match problem.field {
                Some(field) => format!("{field}: {}", problem.detail),
                None => problem.detail,
            },
            rule: refusal.rule,
        })
    }

    /// The event and whose it is.
    fn read(&self, message: &OwnedMessage) -> Result<(Event, TenantId), Cause> {
        let cause = |code: &str, reason: String| Cause {
            code: code.to_owned(),
            reason,
            rule: None,
        };
        let payload = message.payload().unwrap_or_default();
        let most = self.site.config.event_max.0;
        if payload.len() > most {
            return Err(cause("too_large", format!("has more than {most} bytes")));
        }
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let headers = headers.filter_map(|header| Some((header.key, header.value?)));
        let mut event = read(payload, headers).map_err(|error| cause(error.code, error.detail))?;
        // A number that names an event of this topic names another one elsewhere.
        event.source.get_or_insert_with(|| self.topic.clone());
        let tenant = match &event.tenant {
            Some(name) => TenantId::new(name).map_err(|error| cause("invalid_tenant", error.to_string()))?,
            None => self.site.config.default_tenant.clone().ok_or_else(|| {
                cause(
                    "no_tenant",
                    "names no `tenant_id`, and kafka.default_tenant is not set".to_owned(),
                )
            })?,
        };
        if !self.site.config.may_name(&self.topic, &tenant) {
            let reason = format!("events of this topic are not to be of the tenant `{tenant}`");
            return Err(cause("tenant_not_allowed", reason));
        }
        Ok((event, tenant))
    }

    /// Has the group begin behind what is done, when it commits next.
    fn store_offset(&mut self) {
        let Some(watermark) = self.backlog.watermark() else {
            return;
        };
        if self.stored == Some(watermark) {
            return;
        }
        let mut list = TopicPartitionList::new();
        let stored = list
            .add_partition_offset(&self.topic, self.number, Offset::Offset(watermark))
            .and_then(|()| self.site.consumer.store_offsets(&list));
        match stored {
            Ok(()) => self.stored = Some(watermark),
            // The partition has gone; who has it now finds in the database what was done.
            Err(error) => tracing::debug!(%error, "an offset was not stored"),
        }
    }
}
