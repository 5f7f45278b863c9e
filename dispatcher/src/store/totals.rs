//! A tenant's sums.

use std::collections::BTreeMap;

use super::{StoreError, sql::accept as sql, transaction::Tx};
use crate::model::DeliveryState;

/// What a delivery in this state adds to `sent` and `failed`.
pub(super) fn counts(state: DeliveryState) -> (i64, i64) {
    match state {
        DeliveryState::Delivered => (1, 0),
        DeliveryState::Dead | DeliveryState::Expired => (0, 1),
        _ => (0, 0),
    }
}

pub(super) async fn add_totals(
    tx: &mut Tx<'_>,
    totals: BTreeMap<&str, (i64, i64)>,
) -> Result<(), StoreError> {
    let totals: Vec<_> = totals
        .into_iter()
        .filter(|(_, sums)| *sums != (0, 0))
        .map(|(tenant, (sent, failed))| (tenant, 0_i64, sent, failed))
        .collect();
    if !totals.is_empty() {
        tx.conn.query(sql::ADD_TOTALS).rows(&totals).run().await?;
    }
    Ok(())
}
