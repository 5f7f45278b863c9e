//! Connections.

use std::{fmt::Write, str::FromStr, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::store::{NotThere, Server, StoreError};

/// How long a reader waits for a connection of the pool.
const POOL_WAIT: Duration = Duration::from_secs(5);

fn options(server: &Server, url: &SecretString) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url.expose_secret())
        .map_err(|error| StoreError::unreadable("the URL of the database", error))?
        .application_name("carillon");
    if server.pooler {
        return Ok(options.statement_cache_capacity(0));
    }
    Ok(options.options(session(server)))
}

/// What holds for every transaction.
fn session(server: &Server) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        (
            "statement_timeout",
            server.statement_timeout.as_millis().to_string(),
        ),
        ("lock_timeout", server.lock_timeout.as_millis().to_string()),
        (
            "idle_in_transaction_session_timeout",
            (server.statement_timeout * 3).as_millis().to_string(),
        ),
        // The database may have another default; what is answered has to be flushed.
        ("synchronous_commit", "on".to_owned()),
    ];
    // Every statement is short and enters by a key: a plan that was made while a table was small must not read the whole
    // of it when it has grown.
    // It is the same for all values, so it is made once for a connection; by default each of the statements that take lists
    // is planned at every call.
    settings.push(("plan_cache_mode", "force_generic_plan".to_owned()));
    settings.extend(
        ["jit", "enable_seqscan", "enable_hashjoin", "enable_mergejoin"].map(|name| (name, "off".to_owned())),
    );
    settings
}

/// What is set at the begin of each transaction where a session's settings do not last: appended to `BEGIN`.
pub(in crate::store) fn settings(server: &Server) -> String {
    let mut text = String::new();
    if server.pooler {
        for (name, value) in session(server) {
            // Writing to a string cannot fail.
            write!(text, "; SET LOCAL {name} = '{value}'").unwrap_or_default();
        }
    }
    text
}

/// A connection that writes.
pub(in crate::store) async fn writer(server: &Server) -> Result<PgConnection, StoreError> {
    Ok(options(server, &server.url)?.connect().await?)
}

/// Logs in, and out again.
pub(in crate::store) async fn probe(server: &Server) -> Result<(), NotThere> {
    let options = options(server, &server.url).map_err(|error| NotThere::Refused(error.to_string()))?;
    match options.connect().await {
        Ok(conn) => {
            // It was only to see that there can be one.
            conn.close().await.unwrap_or_default();
            Ok(())
        }
        Err(error) if passes(&error) => Err(NotThere::Away(error.to_string())),
        Err(error) => Err(NotThere::Refused(error.to_string())),
    }
}

/// Whether a refused connection may be given later.
fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        // By the class of its SQLSTATE: connections (also what a pooler says of a server that it cannot reach), resources
        // (too many connections, full disk), intervention (it starts or stops), faults of the system beneath.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "53", "57", "58"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// The connections that read; made when they are needed.
pub(in crate::store) fn readers(
    server: &Server,
    url: &SecretString,
    connections: u32,
) -> Result<PgPool, StoreError> {
    Ok(PgPoolOptions::new()
        .max_connections(connections.max(1))
        .acquire_timeout(POOL_WAIT.min(server.connect_timeout * 2))
        .test_before_acquire(false)
        .connect_lazy_with(options(server, url)?))
}
