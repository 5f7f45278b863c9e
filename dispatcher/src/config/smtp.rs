//! The mail server.

use std::path::PathBuf;

use common::config::{Span, number_or_text};
use secrecy::SecretString;
use serde::Deserialize;

use super::seconds;

/// How the connection to the SMTP server is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmtpTls {
    /// STARTTLS before anything else is said; a server without it is refused.
    #[default]
    Starttls,
    /// TLS from the first byte (port 465).
    Tls,
    /// Plain text: for a relay on this machine or in a private network.
    None,
}

/// Section `[smtp]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmtpConfig {
    /// Name or address of the server. Default: none, and the channel email is not configured.
    pub host: Option<String>,
    /// Its port. Default: 587 with `starttls`, 465 with `tls`, 25 with `none`.
    #[serde(deserialize_with = "number_or_text")]
    pub port: Option<u16>,
    /// User name; none: no authentication.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// Sender of all mail, `Name <address>` or the bare address. Default: the user name, where that is an address.
    pub from: Option<String>,
    /// Protection of the connection. Default `starttls`.
    pub tls: SmtpTls,
    /// PEM file with certificates that are believed beside those of the operating system. Default: none.
    pub ca_file: Option<PathBuf>,
    /// Connections, and with them mails on the way at once. Default 10.
    pub pool_size: usize,
    /// Bound of each step of a mail's transmission. Default `30s`.
    pub timeout: Span,
    /// What to do with a mail of which nobody can tell whether the server took it: `resend`, or `hold` as dead with
    /// reason `unknown`. Default `resend`.
    pub on_unknown: UnknownPolicy,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            username: None,
            password: None,
            from: None,
            tls: SmtpTls::default(),
            ca_file: None,
            pool_size: 10,
            timeout: seconds(30),
            on_unknown: UnknownPolicy::default(),
        }
    }
}

impl SmtpConfig {
    /// The port, given or by the kind of protection.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            SmtpTls::Starttls => 587,
            SmtpTls::Tls => 465,
            SmtpTls::None => 25,
        })
    }

    /// The sender, given or the user name.
    #[must_use]
    pub fn sender(&self) -> Option<&str> {
        self.from
            .as_deref()
            .or_else(|| self.username.as_deref().filter(|name| name.contains('@')))
    }
}

/// What a channel does with an attempt that has a start and no end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPolicy {
    /// Send again; the receiver may get it twice.
    #[default]
    Resend,
    /// Do not send again by itself.
    Hold,
}
