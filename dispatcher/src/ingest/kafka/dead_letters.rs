//! Events of which nothing can be made go to a topic of their own, with the reason beside them.

use std::time::Duration;

use rdkafka::{
    Message,
    config::FromClientConfig,
    error::KafkaError,
    message::{Header, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
};

use super::settings;
use crate::config::KafkaConfig;

/// Why an event is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    /// Stable, for programs.
    pub(super) code: String,
    /// For people.
    pub(super) reason: String,
    /// The rule that it failed at.
    pub(super) rule: Option<String>,
}

/// Bytes of a reason in a header.
const MAX_REASON: usize = 1000;

/// Where dead letters go.
pub(super) struct DeadLetters {
    producer: FutureProducer,
    config: KafkaConfig,
    group: String,
}

impl DeadLetters {
    /// # Errors
    /// When the settings cannot be used.
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        Ok(Self {
            producer: FutureProducer::from_config(&settings::producer(config))?,
            config: config.clone(),
            group: config.group_id.clone(),
        })
    }

    /// Puts an event there as it is, with why and whence. Answers when the brokers have it.
    ///
    /// # Errors
    /// It is not known to be there; to be done again.
    pub(super) async fn put(
        &self,
        message: &OwnedMessage,
        cause: &Cause,
        attempts: u32,
    ) -> Result<(), KafkaError> {
        let topic = self.config.dead_letters_of(message.topic());
        let headers = self.headers(message, cause, attempts);
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&topic).headers(headers);
        record.key = message.key();
        record.payload = message.payload();
        let sent = self.producer.send(record, Duration::from_secs(10)).await;
        sent.map(drop).map_err(|(error, _)| error)
    }

    /// The event's own, and behind them ours.
    fn headers(&self, message: &OwnedMessage, cause: &Cause, attempts: u32) -> OwnedHeaders {
        let reason = match cause.reason.char_indices().nth(MAX_REASON) {
            Some((end, _)) => &cause.reason[..end],
            None => &cause.reason,
        };
        let partition = message.partition().to_string();
        let offset = message.offset().to_string();
        let attempts = attempts.to_string();
        let headers = message.headers().map_or_else(OwnedHeaders::new, |headers| {
            use rdkafka::message::Headers;
            headers
                .iter()
                .fold(OwnedHeaders::new(), |all, header| all.insert(header))
        });
        [
            ("dlq-code", Some(cause.code.as_str())),
            ("dlq-reason", Some(reason)),
            ("dlq-rule", cause.rule.as_deref()),
            ("dlq-topic", Some(message.topic())),
            ("dlq-partition", Some(partition.as_str())),
            ("dlq-offset", Some(offset.as_str())),
            ("dlq-attempts", Some(attempts.as_str())),
            ("dlq-group", Some(self.group.as_str())),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .fold(headers, |all, (key, value)| {
            all.insert(Header {
                key,
                value: Some(value),
            })
        })
    }
}
