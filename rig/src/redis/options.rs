//! What a Redis server is started with.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Settings of one server, or of each in a group. Without any it is open, keeps everything in memory and saves nothing.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Of the user `default`; without one there is none.
    pub password: Option<String>,
    /// More users, as redis.conf writes them behind `user`: `bus on >secret ~* &* +@all`.
    pub users: Vec<String>,
    /// A second port with TLS; the one without stays for administration.
    pub tls: Option<Tls>,
    /// A primary from which this one replicates.
    pub replica_of: Option<SocketAddr>,
    /// Lines for redis.conf, behind all others: `maxmemory 8mb`, `client-output-buffer-limit pubsub 1mb 0 0`,
    /// `min-replicas-to-write 1`, `appendonly yes`.
    pub lines: Vec<String>,
}

/// Files in PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The server's certificate, valid for 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs clients' certificates, where they are asked for.
    pub client_ca: Option<PathBuf>,
}

/// The user as whom this crate asks where a server wants to know; also the one by which replicas log in.
pub(super) const ADMINISTRATOR: [&str; 2] = ["rig", "rig"];

impl Options {
    /// With one more line for redis.conf.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    pub(super) fn is_guarded(&self) -> bool {
        self.password.is_some() || !self.users.is_empty()
    }

    /// The whole redis.conf of a server.
    pub(super) fn file(&self, port: u16, tls_port: Option<u16>, folder: &Path) -> String {
        let mut file = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\ndaemonize no\nlogfile \"\"\nsave \"\"\nappendonly no\n\
             enable-debug-command local\n",
            quoted(&folder.display().to_string()),
        );
        let mut add = |line: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            writeln!(file, "{line}").ok();
        };
        if let (Some(tls), Some(port)) = (&self.tls, tls_port) {
            add(format_args!("tls-port {port}"));
            add(format_args!(
                "tls-cert-file {}",
                quoted(&tls.certificate.display().to_string())
            ));
            add(format_args!(
                "tls-key-file {}",
                quoted(&tls.key.display().to_string())
            ));
            match &tls.client_ca {
                Some(ca) => add(format_args!(
                    "tls-ca-cert-file {}",
                    quoted(&ca.display().to_string())
                )),
                None => add(format_args!(
                    "tls-auth-clients no\ntls-ca-cert-file {}",
                    quoted(&tls.certificate.display().to_string())
                )),
            }
        }
        if self.is_guarded() {
            let [name, password] = ADMINISTRATOR;
            add(format_args!("user {name} on >{password} ~* &* +@all"));
            add(format_args!("masteruser {name}\nmasterauth {password}"));
        }
        if let Some(password) = &self.password {
            add(format_args!("requirepass {}", quoted(password)));
        }
        for user in &self.users {
            add(format_args!("user {user}"));
        }
        if let Some(primary) = self.replica_of {
            add(format_args!("replicaof {} {}", primary.ip(), primary.port()));
        }
        for line in &self.lines {
            add(format_args!("{line}"));
        }
        file
    }
}

/// A value of redis.conf in double quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
