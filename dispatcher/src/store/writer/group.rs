//! One group's operations in one transaction: kinds that come in numbers are done many at a time.

use super::work::Work;
use crate::{
    model::NewNotification,
    store::{StoreError, accept, events, queue, sight, transaction::Tx},
};

/// Does the slots of one kind together: their inputs in one list, its results dealt out again.
macro_rules! together {
    ($tx:expr, $group:expr, $kind:ident, $run:path) => {{
        let all: Vec<_> = $group
            .iter()
            .filter_map(|work| {
                if let Work::$kind(slot) = work {
                    Some(slot.input.as_slice())
                } else {
                    None
                }
            })
            .flatten()
            .collect();
        if !all.is_empty() {
            let mut results = $run($tx, &all).await?.into_iter();
            for work in $group.iter_mut() {
                if let Work::$kind(slot) = work {
                    slot.output = Some(results.by_ref().take(slot.input.len()).collect());
                }
            }
        }
        for work in $group.iter_mut() {
            if let Work::$kind(slot) = work
                && slot.input.is_empty()
            {
                slot.output = Some(Vec::new());
            }
        }
    }};
}

pub(super) async fn perform(tx: &mut Tx<'_>, group: &mut [Work]) -> Result<(), StoreError> {
    let calls: Vec<&[NewNotification]> = group
        .iter()
        .filter_map(|work| {
            if let Work::Accept(slot) = work {
                Some(slot.input.as_slice())
            } else {
                None
            }
        })
        .collect();
    if !calls.is_empty() {
        let mut results = accept::accept(tx, &calls).await?.into_iter();
        for work in group.iter_mut() {
            if let Work::Accept(slot) = work {
                slot.output = results.next();
            }
        }
    }
    together!(tx, group, TakeIn, events::take_in);
    together!(tx, group, Touch, sight::touch);
    // Counters are locked before deliveries.
    together!(tx, group, Settle, queue::settle);
    together!(tx, group, Extend, queue::extend);
    together!(tx, group, Begin, queue::begin_attempts);
    // Claims come last and see what the group made due.
    for work in group.iter_mut() {
        if let Work::Claim(single) | Work::Other(single) = work {
            single.run(tx).await?;
        }
    }
    Ok(())
}
