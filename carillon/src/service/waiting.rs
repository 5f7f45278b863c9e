//! A process whose database is not there yet: it answers that it lives and is not ready, and waits.

use std::{pin::Pin, time::Duration};

use common::backoff::Backoff;
use dispatcher::store::{NotThere, StoreError, probe};

use super::{
    dispatcher::Database,
    ending::Ending,
    listeners::{Listeners, Meanwhile},
};
use crate::{config::Config, grpc, routes};

/// Between two looks at a database that is away. Many processes look.
const LOOKS: Backoff = Backoff {
    base: Duration::from_millis(250),
    factor: 1.6,
    max: Duration::from_secs(5),
};

/// Opens the database as soon as it is there; none where the end came before.
///
/// # Errors
/// What waiting does not help against: a wrong password, a database that does not exist or is of a newer version.
pub(super) async fn database(
    config: &Config,
    listeners: &Listeners,
    mut ending: Pin<&mut impl Future<Output = Ending>>,
) -> anyhow::Result<Option<Database>> {
    let mut meanwhile: Option<Meanwhile> = None;
    let mut looks = 0;
    let database = loop {
        let reason = match look(config).await? {
            Ok(database) => break Some(database),
            Err(reason) => reason,
        };
        if meanwhile.is_none() {
            tracing::warn!(%reason, "waiting for the database {}", config.database_place());
            meanwhile = Some(listeners.meanwhile(&routes::waiting(), &grpc::waiting())?);
        }
        looks += 1;
        tokio::select! {
            _ = ending.as_mut() => break None,
            () = tokio::time::sleep(LOOKS.delay(looks, fastrand::f64())) => {}
        }
    };
    if let Some(meanwhile) = meanwhile {
        if database.is_some() {
            tracing::info!(looks, "the database is there");
        }
        meanwhile.stop().await;
    }
    Ok(database)
}

/// The database, or why it is not there yet.
async fn look(config: &Config) -> anyhow::Result<Result<Database, String>> {
    let place = config.database_place();
    match probe(&place).await {
        Ok(()) => {}
        Err(NotThere::Away(reason)) => return Ok(Err(reason)),
        Err(NotThere::Refused(reason)) => anyhow::bail!("the database {place} refuses: {reason}"),
    }
    let error = match Database::open(config).await {
        Ok(database) => return Ok(Ok(database)),
        Err(error) => error,
    };
    // It may have gone away meanwhile, or another process holds what a migration needs.
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::Unavailable { .. } | StoreError::Again) => Ok(Err(format!("{error:#}"))),
        _ => Err(error),
    }
}
