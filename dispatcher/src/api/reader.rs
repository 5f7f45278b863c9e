//! The caller as a reader of the inbox.

use common::{http::Problem, token::Identity};

use super::{problems::store_problem, state::ApiState};
use crate::{model::ReaderKeys, store::StoreError};

/// The caller by the keys of its token, which the store has seen from now on.
pub(crate) async fn seen(state: &ApiState, caller: &Identity) -> Result<ReaderKeys, Problem> {
    let reader = ReaderKeys {
        tenant: caller.tenant.clone(),
        user: caller.user.clone(),
        keys: caller.keys(),
    };
    match state.service.touch(&reader).await {
        Ok(()) => Ok(reader),
        // A replica shows what was there before the outage, to whom it was known.
        Err(StoreError::Unavailable { .. }) if state.store().may_be_stale() => Ok(reader),
        Err(error) => Err(store_problem(error)),
    }
}
