//! How often what processes remember was changed.

use super::{StoreError, access::Access, sql::audit as sql, transaction::Tx};
use crate::model::{Revised, Revisions};

/// Says with the change that there is one. Changes of a kind follow each other from here to their commits.
pub(super) async fn revise(tx: &mut Tx<'_>, kind: Revised) -> Result<(), StoreError> {
    tx.conn.query(sql::REVISE).bind(kind.as_str()).run().await?;
    Ok(())
}

pub(super) async fn revisions(conn: &mut Access<'_>) -> Result<Revisions, StoreError> {
    let rows: Vec<(String, i64)> = conn.query(sql::REVISIONS).all().await?;
    let mut revisions = Revisions::default();
    for kind in Revised::ALL {
        if let Some((_, revision)) = rows.iter().find(|(name, _)| name == kind.as_str()) {
            revisions.set(kind, *revision);
        }
    }
    Ok(revisions)
}
