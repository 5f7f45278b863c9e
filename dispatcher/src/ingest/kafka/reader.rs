//! The task that reads what the group gives this process.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    Message,
    config::FromClientConfigAndContext,
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    message::OwnedMessage,
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    dead_letters::DeadLetters,
    gate::Gate,
    partition::{Partition, Site},
    settings,
    watch::{Lane, Watch},
};
use crate::{api::ApiState, config::KafkaConfig, metrics::Metrics, reading::ReadingStatus};

/// After an error that is no message's.
const PAUSE: Duration = Duration::from_millis(500);

/// How long leaving the group may take, and a look at what is left of it.
const LEAVE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// Reads until it is stopped: then the batches at hand are finished, their offsets committed, and the group is left.
pub(crate) async fn run(
    api: ApiState,
    config: KafkaConfig,
    metrics: Metrics,
    status: ReadingStatus,
    stop: CancellationToken,
) {
    let reader = match Reader::new(api, config, metrics, status) {
        Ok(reader) => reader,
        Err(error) => {
            tracing::error!(%error, "events are not read: kafka cannot be used as it is configured");
            return;
        }
    };
    reader.run(&stop).await;
    // Closing commits the stored offsets and tells the group, which blocks for a while.
    let closed = tokio::task::spawn_blocking(move || drop(reader)).await;
    if let Err(error) = closed {
        tracing::warn!(%error, "the consumer of kafka was not closed");
    }
}

struct Reader {
    site: Arc<Site>,
    tasks: TaskTracker,
}

impl Reader {
    fn new(
        api: ApiState,
        config: KafkaConfig,
        metrics: Metrics,
        status: ReadingStatus,
    ) -> Result<Self, KafkaError> {
        let watch = Watch::new(metrics.clone(), status);
        let consumer: StreamConsumer<Watch> =
            StreamConsumer::from_config_and_context(&settings::consumer(&config), watch)?;
        let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        tracing::info!(topics = %topics.join(", "), group = %config.group_id, "events are read from kafka");
        Ok(Self {
            site: Arc::new(Site {
                api,
                consumer: Arc::new(consumer),
                dead_letters: DeadLetters::new(&config)?,
                metrics,
                config,
            }),
            tasks: TaskTracker::new(),
        })
    }

    async fn run(&self, stop: &CancellationToken) {
        loop {
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                read = self.site.consumer.recv() => read.map(|message| message.detach()),
            };
            match read {
                Ok(message) => self.hand_over(message).await,
                Err(error) => {
                    // A topic that is not there yet, a broker that is away: librdkafka goes on by itself.
                    tracing::info!(%error, "kafka");
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
        self.site.consumer.context().lanes().clear();
        self.tasks.close();
        self.tasks.wait().await;
        if self.site.consumer.context().is_kept() {
            let left = tokio::time::timeout(LEAVE, self.leave()).await;
            if left.is_err() {
                tracing::warn!(
                    "kafka was not left in order; the group goes on without this process after a while"
                );
            }
        }
    }

    /// Gives all partitions back, which commits their stored offsets.
    async fn leave(&self) {
        let consumer = &self.site.consumer;
        consumer.unsubscribe();
        while consumer.assignment().is_ok_and(|assigned| assigned.count() > 0) {
            // Partitions go while something is asked for; what still comes is for the next reader.
            drop(tokio::time::timeout(LOOK, consumer.recv()).await);
        }
    }

    /// Gives a message to the task of its partition.
    async fn hand_over(&self, message: OwnedMessage) {
        let (messages, gate) = self.lane(&message);
        let sent = match messages.try_send(message) {
            Ok(()) => Ok(()),
            // It is paused long before this; one that slipped through waits.
            Err(mpsc::error::TrySendError::Full(message)) => messages.send(message).await.map_err(drop),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(()),
        };
        if sent.is_err() {
            tracing::debug!("a message came for a partition that has gone");
        }
        let full = || messages.capacity() < messages.max_capacity() / 4;
        if full() {
            gate.close(&self.site.consumer, full);
        }
    }

    /// The way to a partition's task, which is begun with its first message.
    fn lane(&self, message: &OwnedMessage) -> (mpsc::Sender<OwnedMessage>, Arc<Gate>) {
        let place = (message.topic().to_owned(), message.partition());
        let mut lanes = self.site.consumer.context().lanes();
        let lane = lanes.entry(place).or_insert_with_key(|(topic, number)| {
            let (messages, inbox) = mpsc::channel(self.site.config.buffer.max(8));
            let gate = Arc::new(Gate::new(topic, *number, self.site.metrics.kafka_paused.clone()));
            let stop = CancellationToken::new();
            let partition = Partition::new(
                Arc::clone(&self.site),
                (topic, *number),
                inbox,
                Arc::clone(&gate),
                stop.clone(),
            );
            self.tasks.spawn(partition.run());
            Lane { messages, gate, stop }
        });
        (lane.messages.clone(), Arc::clone(&lane.gate))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Also where it is dropped at work: tasks hold the consumer, and end when their ways have gone.
        self.site.consumer.context().lanes().clear();
    }
}
