//! Whether a database can be used, before anything of it is opened.

use super::{Place, connect, postgres};

/// Why a database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotThere {
    /// It is away, about to start, or has no connection to spare: waiting may help.
    #[error("{0}")]
    Away(String),
    /// It refuses: user, password or database are wrong, or the settings make no sense.
    #[error("{0}")]
    Refused(String),
}

/// Asks a database once. A file is always there.
///
/// # Errors
/// [`NotThere`].
pub async fn probe(place: &Place) -> Result<(), NotThere> {
    let Place::Server(server) = place else {
        return Ok(());
    };
    let asked = tokio::time::timeout(server.connect_timeout, postgres::connect::probe(server));
    asked
        .await
        .unwrap_or_else(|_| Err(NotThere::Away(connect::too_slow().to_string())))
}
