//! Our configuration in librdkafka's words.

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use secrecy::ExposeSecret;

use crate::config::KafkaConfig;

/// What consumer and producer have in common.
fn common(config: &KafkaConfig) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", config.brokers.join(","))
        .set("client.id", "carillon")
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.max.ms", "2000")
        .set_log_level(RDKafkaLogLevel::Warning);
    if let (Some(username), Some(password)) = (&config.username, &config.password) {
        settings
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", username)
            .set("sasl.password", password.expose_secret());
    }
    settings
}

/// A consumer that stores no offset by itself, and gives up only the partitions that move.
pub(super) fn consumer(config: &KafkaConfig) -> ClientConfig {
    let session = config.session_timeout.0.as_millis();
    let mut settings = common(config);
    settings
        .set("group.id", &config.group_id)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("auto.offset.reset", config.start.as_str())
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("isolation.level", "read_committed")
        .set("session.timeout.ms", session.to_string())
        .set("heartbeat.interval.ms", (session / 3).to_string())
        .set("statistics.interval.ms", "5000")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("queued.max.messages.kbytes", "16384")
        .set(
            "fetch.message.max.bytes",
            (config.event_max.0 + 64 * 1024).to_string(),
        );
    settings
}

/// A producer whose answer means that every replica in sync has it.
pub(super) fn producer(config: &KafkaConfig) -> ClientConfig {
    let mut settings = common(config);
    settings
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("message.timeout.ms", "10000")
        .set("message.max.bytes", "67108864");
    settings
}
