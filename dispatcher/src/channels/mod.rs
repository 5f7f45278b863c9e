//! Channels that leave this system: a closed set of adapters, each with its outcome classes.

mod address;
mod email;
mod mail;
#[cfg(any(test, feature = "test-util"))]
mod memory;
mod smtp;
mod webhook;

use std::{collections::BTreeMap, sync::Arc};

use common::config::ConfigError;

#[cfg(any(test, feature = "test-util"))]
pub use self::memory::{MemoryChannel, Sent};
pub use self::{
    address::{InvalidAddress, mask_address, parse_address},
    email::Email,
    webhook::{Resolver, Webhook},
};
use crate::{
    config::DispatcherConfig,
    metrics::Metrics,
    model::{Channel, Claimed, Micros, Outcome},
    store::OnUnknown,
};

/// What a channel says of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// What the provider said, shortened, without addresses.
    pub response: Option<String>,
}

impl From<Outcome> for Report {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            response: None,
        }
    }
}

/// How many deliveries a channel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Claimed: being recorded, sent or settled.
    pub(crate) held: usize,
    /// Those that are sent at once.
    pub(crate) sending: usize,
}

#[derive(Debug)]
enum Adapter {
    Email(Box<Email>),
    Webhook(Box<Webhook>),
    #[cfg(any(test, feature = "test-util"))]
    Memory(MemoryChannel),
}

/// The configured channels. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Channels(Arc<BTreeMap<Channel, Adapter>>);

impl Channels {
    /// The channels that the configuration names.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn new(config: &DispatcherConfig, metrics: &Metrics) -> Result<Self, ConfigError> {
        Self::resolving(config, Resolver::System, metrics)
    }

    /// The same, with names that stand for what `resolver` says.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn resolving(
        config: &DispatcherConfig,
        resolver: Resolver,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        let mut adapters = BTreeMap::new();
        if let Some(email) = Email::new(&config.smtp, metrics.clone())? {
            adapters.insert(Channel::Email, Adapter::Email(Box::new(email)));
        }
        if let Some(webhook) = Webhook::new(config, resolver, metrics.clone())? {
            adapters.insert(Channel::Webhook, Adapter::Webhook(Box::new(webhook)));
        }
        Ok(Self(Arc::new(adapters)))
    }

    /// Channels in memory, for tests.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn in_memory(channels: impl IntoIterator<Item = (Channel, MemoryChannel)>) -> Self {
        Self(Arc::new(
            channels
                .into_iter()
                .map(|(channel, memory)| (channel, Adapter::Memory(memory)))
                .collect(),
        ))
    }

    /// Whether deliveries by this channel can go out. Inbox and sockets always can.
    #[must_use]
    pub fn is_configured(&self, channel: Channel) -> bool {
        !channel.is_external() || self.0.contains_key(&channel)
    }

    /// Whether webhooks may go to this URL, as it is written. Every URL may where the channel is not configured.
    ///
    /// # Errors
    /// Why it would not be called.
    pub(crate) fn check_webhook(&self, url: &str) -> Result<(), &'static str> {
        match self.0.get(&Channel::Webhook) {
            Some(Adapter::Webhook(webhook)) => webhook.check(url),
            _ => Ok(()),
        }
    }

    /// What becomes of a delivery of which nobody can tell whether it went out. Paid messages are not repeated.
    #[must_use]
    pub fn on_unknown(&self, channel: Channel) -> OnUnknown {
        match self.0.get(&channel) {
            Some(Adapter::Email(email)) => email.on_unknown(),
            Some(Adapter::Webhook(webhook)) => webhook.on_unknown(),
            #[cfg(any(test, feature = "test-util"))]
            Some(Adapter::Memory(memory)) => memory.on_unknown(),
            None if channel == Channel::Sms => OnUnknown::Hold,
            None => OnUnknown::Resend,
        }
    }

    /// How many deliveries each channel takes.
    pub(crate) fn capacities(&self) -> impl Iterator<Item = (Channel, Capacity)> {
        self.0.iter().map(|(channel, adapter)| match adapter {
            Adapter::Email(email) => (*channel, email.capacity()),
            Adapter::Webhook(webhook) => (*channel, webhook.capacity()),
            #[cfg(any(test, feature = "test-util"))]
            Adapter::Memory(memory) => (*channel, memory.capacity()),
        })
    }

    /// Whether a delivery may be sent now; else when to ask again. To be asked before its attempt begins, as what has to
    /// wait for its turn has not been tried.
    ///
    /// # Errors
    /// The time before which it has no turn.
    pub(crate) fn admit(&self, delivery: &Claimed) -> Result<(), Micros> {
        match self.0.get(&delivery.channel) {
            Some(Adapter::Webhook(webhook)) => webhook.admit(delivery),
            _ => Ok(()),
        }
    }

    /// Whether [`Self::admit`] refuses nothing of this channel.
    pub(crate) fn admits_all(&self, channel: Channel) -> bool {
        self.0
            .get(&channel)
            .is_some_and(|adapter| !matches!(adapter, Adapter::Webhook(_)))
    }

    /// Sends one delivery.
    pub(crate) async fn send(&self, delivery: &Claimed) -> Report {
        match self.0.get(&delivery.channel) {
            // On the heap, as whoever waits is moved a few times before it runs.
            Some(Adapter::Email(email)) => Box::pin(email.send(delivery)).await,
            Some(Adapter::Webhook(webhook)) => Box::pin(webhook.send(delivery)).await,
            #[cfg(any(test, feature = "test-util"))]
            Some(Adapter::Memory(memory)) => memory.send(delivery).await,
            None => Outcome::NotConfigured.into(),
        }
    }

    /// Ends what the channels keep open.
    pub(crate) async fn close(&self) {
        for adapter in self.0.values() {
            match adapter {
                Adapter::Email(email) => email.close().await,
                Adapter::Webhook(webhook) => webhook.close(),
                #[cfg(any(test, feature = "test-util"))]
                Adapter::Memory(_) => {}
            }
        }
    }
}
