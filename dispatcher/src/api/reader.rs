//! The caller as a reader of the inbox.

use common::{http::Problem, token::Identity};

use super::{problems::store_problem, state::ApiState};
use crate::model::ReaderKeys;

/// The caller by the keys of its token, which the store has seen from now on.
pub(crate) async fn seen(state: &ApiState, caller: &Identity) -> Result<ReaderKeys, Problem> {
    let reader = ReaderKeys {
        tenant: caller.tenant.clone(),
        user: caller.user.clone(),
        keys: caller.keys(),
    };
    state.store().touch_reader(&reader).await.map_err(store_problem)?;
    Ok(reader)
}
