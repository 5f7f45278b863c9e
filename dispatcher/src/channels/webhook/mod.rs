//! Webhooks: a signed HTTP call to a receiver's URL.
//!
//! At least once: `webhook-id` is the delivery's id, the same in every attempt. In the order of a call's way: `pace` says
//! whether the URL's turn has come; `payload` and `sign` make what is sent; `guard` says whether the URL may be called at
//! all, `connect` asks it again about the addresses; `exchange` sends, and `answer` says what the answer means.

mod answer;
mod connect;
mod exchange;
mod guard;
mod pace;
mod payload;
mod resolve;
mod sign;

use std::time::{Duration, Instant};

use common::config::ConfigError;

pub use self::resolve::Resolver;
use self::{
    connect::Connector,
    exchange::{Answer, Client, NoAnswer},
    guard::{Destination, Guard, Refusal},
    pace::Pace,
    sign::Keys,
};
use super::{Capacity, Report, address::clean_response};
use crate::{
    config::{DispatcherConfig, HostPattern, UnknownPolicy, WebhookConfig, WebhookFormat},
    metrics::Metrics,
    model::{Channel, Claimed, Micros, Outcome},
    store::OnUnknown,
};

/// Calls that are held for each that is made at once; see [`super::email`] for why and why not.
const HELD_PER_CALL: usize = 4;

/// Longest pause that a receiver can ask for its other deliveries; each delivery's own wish is bounded by its retries.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// How a receiver is called.
#[derive(Debug)]
struct Endpoint {
    /// None: every host that no other entry names.
    host: Option<HostPattern>,
    keys: Keys,
    format: WebhookFormat,
    per_minute: usize,
}

/// The channel webhook.
#[derive(Debug)]
pub struct Webhook {
    /// The last one is for every host.
    endpoints: Vec<Endpoint>,
    client: Client,
    pace: Pace,
    concurrency: usize,
    on_unknown: OnUnknown,
    metrics: Metrics,
}

impl Webhook {
    /// The channel, if it is configured.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn new(
        config: &DispatcherConfig,
        resolver: Resolver,
        metrics: Metrics,
    ) -> Result<Option<Self>, ConfigError> {
        let retry = config.channels.retry(Channel::Webhook);
        let config = &config.webhook;
        if !config.is_configured() {
            return Ok(None);
        }
        let connector = Connector::new(
            Guard::new(config),
            resolver,
            config.ca_file.as_deref(),
            config.connect_timeout.0,
        )?;
        Ok(Some(Self {
            endpoints: endpoints(config)?,
            client: Client::new(connector, config.timeout.0, config.concurrency),
            pace: Pace::new(
                retry
                    .retry_after_max
                    .map_or(LONGEST_PAUSE, |longest| longest.0.min(LONGEST_PAUSE)),
            ),
            concurrency: config.concurrency,
            on_unknown: match config.on_unknown {
                UnknownPolicy::Resend => OnUnknown::Resend,
                UnknownPolicy::Hold => OnUnknown::Hold,
            },
            metrics,
        }))
    }

    pub(crate) fn capacity(&self) -> Capacity {
        let factor = match self.on_unknown {
            OnUnknown::Resend => HELD_PER_CALL,
            OnUnknown::Hold => 1,
        };
        Capacity {
            held: self.concurrency.saturating_mul(factor),
            sending: self.concurrency,
        }
    }

    pub(crate) fn on_unknown(&self) -> OnUnknown {
        self.on_unknown
    }

    /// Whether a URL may be called, as it is written.
    ///
    /// # Errors
    /// Why it would not be.
    pub(crate) fn check(&self, url: &str) -> Result<(), &'static str> {
        match self.client.connector().guard().judge(url) {
            Ok(_) => Ok(()),
            Err(Refusal::Invalid(why) | Refusal::Forbidden(why)) => Err(why),
        }
    }

    /// Whether the URL's turn has come; else when to ask again. A URL that is not called anyway has its turn at once.
    pub(crate) fn admit(&self, delivery: &Claimed) -> Result<(), Micros> {
        let url = delivery.address.as_deref().unwrap_or_default();
        match self.client.connector().guard().judge(url) {
            Ok(destination) => {
                let allowed = self
                    .endpoint(&destination)
                    .map_or(1, |endpoint| endpoint.per_minute);
                self.pace.call(url, allowed, Micros::now())
            }
            Err(_) => Ok(()),
        }
    }

    /// Calls the receiver, and says how it ended.
    pub(crate) async fn send(&self, delivery: &Claimed) -> Report {
        let url = delivery.address.as_deref().unwrap_or_default();
        let destination = match self.client.connector().guard().judge(url) {
            Ok(destination) => destination,
            Err(Refusal::Invalid(why)) => return report(Outcome::RecipientInvalid, why),
            Err(Refusal::Forbidden(why)) => return report(Outcome::Rejected, why),
        };
        let Some(endpoint) = self.endpoint(&destination).filter(|one| !one.keys.is_empty()) else {
            return report(Outcome::NotConfigured, "there is no secret for this host");
        };
        let now = Micros::now();
        let payload = match payload::payload(delivery, endpoint.format, &endpoint.keys, now) {
            Ok(payload) => payload,
            Err(error) => return report(Outcome::Rejected, &error.to_string()),
        };
        let started = Instant::now();
        let result = self.client.post(&destination, &payload).await;
        self.metrics
            .webhook_seconds
            .observe(started.elapsed().as_secs_f64());
        let report = match result {
            Ok(answer) => self.answered(url, &answer),
            Err(NoAnswer::Forbidden(why)) => report(Outcome::Rejected, why),
            Err(NoAnswer::NotSent(why)) => report(Outcome::Retry, &clean_response(&why, url)),
            Err(NoAnswer::Unknown(why)) => report(Outcome::Unknown, &clean_response(&why, url)),
        };
        if report.outcome != Outcome::Delivered {
            // Path and query may hold what only the receiver should know, and the answer what it was told.
            tracing::info!(
                delivery = %delivery.id,
                host = destination.origin.host,
                outcome = report.outcome.as_str(),
                "a webhook was not delivered"
            );
        }
        report
    }

    fn answered(&self, url: &str, answer: &Answer) -> Report {
        let now = Micros::now();
        let outcome = answer::outcome(answer.status, &answer.headers, now);
        if let Outcome::Throttled { until } = outcome {
            self.pace.pause(url, until, now);
        }
        let mut text = answer.status.as_u16().to_string();
        if answer.status.is_redirection() {
            text.push_str(" redirects are not followed");
        } else if !answer.excerpt.is_empty() {
            text.push(' ');
            text.push_str(&String::from_utf8_lossy(&answer.excerpt));
        }
        report(outcome, &clean_response(&text, url))
    }

    fn endpoint(&self, destination: &Destination) -> Option<&Endpoint> {
        let host = &destination.origin.host;
        self.endpoints
            .iter()
            .find(|one| one.host.as_ref().is_none_or(|pattern| pattern.matches(host)))
    }

    /// Closes the idle connections.
    pub(crate) fn close(&self) {
        self.client.close();
    }
}

fn endpoints(config: &WebhookConfig) -> Result<Vec<Endpoint>, ConfigError> {
    let invalid = |problem| ConfigError::invalid("webhook.secrets", problem);
    let mut endpoints = Vec::with_capacity(config.endpoints.len() + 1);
    for endpoint in &config.endpoints {
        let format = endpoint.format.unwrap_or(config.format);
        endpoints.push(Endpoint {
            host: Some(endpoint.host.clone()),
            keys: Keys::new(endpoint.secrets(config), format).map_err(invalid)?,
            format,
            per_minute: endpoint.per_minute.unwrap_or(config.per_minute),
        });
    }
    endpoints.push(Endpoint {
        host: None,
        keys: Keys::new(&config.secrets, config.format).map_err(invalid)?,
        format: config.format,
        per_minute: config.per_minute,
    });
    Ok(endpoints)
}

fn report(outcome: Outcome, response: &str) -> Report {
    Report {
        outcome,
        response: Some(response.to_owned()),
    }
}
