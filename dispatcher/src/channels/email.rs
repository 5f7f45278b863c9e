//! Email by SMTP: a bounded pool of connections, one recipient a mail.
//!
//! At least once: the Message-ID is the delivery's id, the same in every attempt.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use common::config::ConfigError;
use lettre::{
    Address,
    message::Mailbox,
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, TlsParameters},
    },
};
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use super::{
    Capacity, Report,
    address::{clean_response, mask_address, parse_address},
    mail::{Mail, render},
    smtp::{Connection, Failure, Server, Step},
};
use crate::{
    config::{SmtpConfig, SmtpTls, UnknownPolicy},
    metrics::Metrics,
    model::{Claimed, Outcome},
    store::OnUnknown,
};

/// A connection that was idle longer is not used again: servers close them after some minutes (RFC 5321 section
/// 4.5.3.2.7 says five), relays often earlier.
const IDLE: Duration = Duration::from_secs(60);

/// Mails that are held for each connection. While one is sent, the next are recorded and the last are settled; a mail
/// that has no turn yet waits for as many transmissions at the most. After a crash all of them count as unknown, so
/// where the unknown is not sent again only what a connection takes is held.
const HELD_PER_CONNECTION: usize = 64;

/// The email channel.
#[derive(Debug)]
pub struct Email {
    server: Server,
    from: Mailbox,
    on_unknown: OnUnknown,
    /// As many as connections; a further mail waits here.
    places: Semaphore,
    connections: usize,
    idle: Mutex<Vec<(Connection, Instant)>>,
    metrics: Metrics,
}

fn tls_parameters(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, ConfigError> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca_file {
        let refuse =
            |reason: String| ConfigError::invalid("smtp.ca_file", format!("{}: {reason}", path.display()));
        let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
        let authorities = Certificate::from_pem(&pem).map_err(|error| refuse(error.to_string()))?;
        builder = builder.add_root_certificate(authorities);
    }
    builder
        .build()
        .map_err(|error| ConfigError::invalid("smtp.tls", error.to_string()))
}

impl Email {
    /// The channel, if it is configured.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn new(config: &SmtpConfig, metrics: Metrics) -> Result<Option<Self>, ConfigError> {
        let Some(host) = config.host.clone() else {
            return Ok(None);
        };
        let sender = config
            .sender()
            .ok_or_else(|| ConfigError::invalid("smtp.from", "is needed with smtp.host"))?;
        let from = sender
            .parse()
            .map_err(|error| ConfigError::invalid("smtp.from", format!("is not an address: {error}")))?;
        let tls_parameters = match config.tls {
            SmtpTls::None => None,
            SmtpTls::Starttls | SmtpTls::Tls => Some(tls_parameters(&host, config.ca_file.as_deref())?),
        };
        let credentials = match (&config.username, &config.password) {
            (Some(name), Some(password)) => Some(Credentials::new(
                name.clone(),
                password.expose_secret().to_owned(),
            )),
            _ => None,
        };
        if config.tls == SmtpTls::None && credentials.is_some() {
            tracing::warn!(
                host,
                "smtp.tls is none: the password goes to the mail server in plain text"
            );
        }
        Ok(Some(Self {
            server: Server {
                host,
                port: config.port(),
                tls: config.tls,
                tls_parameters,
                credentials,
                timeout: config.timeout.0,
            },
            from,
            on_unknown: match config.on_unknown {
                UnknownPolicy::Resend => OnUnknown::Resend,
                UnknownPolicy::Hold => OnUnknown::Hold,
            },
            places: Semaphore::new(config.pool_size),
            connections: config.pool_size,
            idle: Mutex::default(),
            metrics,
        }))
    }

    pub(crate) fn capacity(&self) -> Capacity {
        let factor = match self.on_unknown {
            OnUnknown::Resend => HELD_PER_CONNECTION,
            OnUnknown::Hold => 1,
        };
        Capacity {
            held: self.connections.saturating_mul(factor),
            sending: self.connections,
        }
    }

    pub(crate) fn on_unknown(&self) -> OnUnknown {
        self.on_unknown
    }

    /// Sends one mail and says how it ended.
    pub(crate) async fn send(&self, delivery: &Claimed) -> Report {
        let address = delivery.address.as_deref().unwrap_or_default();
        let Ok(to) = parse_address(address) else {
            return Outcome::RecipientInvalid.into();
        };
        let mail = Mail {
            delivery: delivery.id,
            notification: delivery.notification,
            from: &self.from,
            to: to.clone(),
            date: delivery.visible_at,
            content: &delivery.content,
        };
        let mail = match render(&mail) {
            Ok(mail) => mail,
            Err(error) => {
                return Report {
                    outcome: Outcome::Rejected,
                    response: Some(error),
                };
            }
        };
        // The semaphore is never closed.
        let Ok(_place) = self.places.acquire().await else {
            return Outcome::Retry.into();
        };
        let started = Instant::now();
        let result = self.transmit(&to, &mail).await;
        self.metrics
            .email_seconds
            .observe(started.elapsed().as_secs_f64());
        match result {
            Ok(answer) => Report {
                outcome: Outcome::Delivered,
                response: Some(clean_response(&answer, address)),
            },
            Err(failure) => {
                let response = clean_response(&failure.text(), address);
                let (to, step) = (mask_address(address), failure.step);
                if failure.is_setting() {
                    tracing::error!(
                        host = self.server.host,
                        ?step,
                        answer = response,
                        "the mail server refuses our settings"
                    );
                } else {
                    tracing::info!(delivery = %delivery.id, to, ?step, answer = response, "a mail was not sent");
                }
                Report {
                    outcome: failure.outcome(),
                    response: Some(response),
                }
            }
        }
    }

    async fn transmit(&self, to: &Address, mail: &str) -> Result<String, Failure> {
        if let Some(mut connection) = self.take_idle() {
            let result = connection.send(&self.from.email, to, mail).await;
            // A server may have closed it while it was idle; up to the first answer nothing was sent.
            let stale =
                matches!(&result, Err(failure) if failure.step == Step::Mail && !failure.leaves_connection());
            if !stale {
                return self.finish(connection, result).await;
            }
        }
        // Rare, and large: not a part of every mail's future.
        let mut connection = Box::pin(Connection::open(&self.server)).await?;
        let result = connection.send(&self.from.email, to, mail).await;
        self.finish(connection, result).await
    }

    async fn finish(
        &self,
        mut connection: Connection,
        result: Result<String, Failure>,
    ) -> Result<String, Failure> {
        let usable = match &result {
            Ok(_) => true,
            Err(failure) => failure.leaves_connection() && connection.reset().await,
        };
        if usable {
            self.lock_idle().push((connection, Instant::now()));
        }
        result
    }

    /// The connection that was used last, so that those which are not needed grow old.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.lock_idle();
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the idle connections.
    pub(crate) async fn close(&self) {
        let idle = std::mem::take(&mut *self.lock_idle());
        futures_util::future::join_all(idle.into_iter().map(|(connection, _)| connection.quit())).await;
    }
}
