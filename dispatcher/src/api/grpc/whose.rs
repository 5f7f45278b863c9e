//! Whose inbox a call is about: the caller's, or one that a service names.

use common::{
    http::{Caller, Problem, refuse_nul_in},
    ids::Name,
};

use super::super::{draft::tenant_mismatch, problems::store_problem, reader::seen, state::ApiState};
use crate::model::ReaderKeys;

/// The scope that it takes to name another user.
const SCOPE: &str = "inbox:any";

/// A reader.
pub(super) struct Whose {
    pub(super) reader: ReaderKeys,
    /// The user whom a service named.
    pub(super) named: Option<Name>,
    known: bool,
}

/// Reads what a call says of it.
pub(super) async fn whose(
    state: &ApiState,
    caller: &Caller,
    tenant: Option<&str>,
    user: Option<&str>,
) -> Result<Whose, Problem> {
    if tenant.is_some_and(|tenant| tenant != caller.tenant.as_str()) {
        return Err(tenant_mismatch());
    }
    let Some(user) = user.filter(|user| *user != caller.user.as_str()) else {
        return Ok(Whose {
            reader: seen(state, caller).await?,
            named: None,
            known: true,
        });
    };
    caller
        .require(SCOPE)
        .map_err(|problem| problem.field("user_id"))?;
    refuse_nul_in("user_id", user)?;
    let user =
        Name::new(user).map_err(|error| Problem::invalid("invalid_name", "user_id", error.to_string()))?;
    let (reader, known) = named(state, caller, &user).await?;
    Ok(Whose {
        reader,
        named: Some(user),
        known,
    })
}

/// A user of the caller's tenant with the keys of its newest token; false where it was never seen.
pub(super) async fn named(
    state: &ApiState,
    caller: &Caller,
    user: &Name,
) -> Result<(ReaderKeys, bool), Problem> {
    let named = state.store().named_reader(&caller.tenant, user);
    state.service.read(named).await.map_err(store_problem)
}

impl Whose {
    /// To be called before something of the inbox is marked: the first mark would otherwise count as the user's first sight, and
    /// of the tenant's notifications from before it would see none.
    pub(super) async fn begin(&self, state: &ApiState) -> Result<(), Problem> {
        if self.known {
            return Ok(());
        }
        state.service.touch(&self.reader).await.map_err(store_problem)
    }
}
