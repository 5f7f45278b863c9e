//! What every call goes through: who is calling, whether its budget allows it, whether the database is there; and what is told.

use common::{
    grpc::{Credentials, status},
    http::{Caller, Problem},
};
use http::HeaderMap;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::super::{
    budget::Budget,
    limits::{Refusal, tell},
    outage::{Needs, within},
    stale,
    state::ApiState,
};

/// A call by a verified caller within its budget.
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) credentials: Credentials,
}

/// An answer, and what is left of the budget where it took more than one of it.
pub(super) struct Told<T> {
    pub(super) message: T,
    pub(super) budget: Option<Budget>,
}

/// An answer that cost one of the budget.
pub(super) async fn counted<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<Told<T>, Refusal> {
    let message = work.await?;
    Ok(Told {
        message,
        budget: None,
    })
}

/// Carries out a call as REST's layers do a request.
pub(super) async fn call<M, T, W>(
    state: &ApiState,
    request: Request<M>,
    needs: Needs,
    work: impl FnOnce(Call, M) -> W,
) -> Result<Response<T>, Status>
where
    W: Future<Output = Result<Told<T>, Refusal>>,
{
    let (metadata, extensions, message) = request.into_parts();
    let credentials = Credentials::new(metadata.into_headers(), extensions);
    let caller = credentials.caller().await.map_err(status)?;
    let budget = state.rate_limits().check(&caller);
    if budget.refused {
        return Err(refused(Refusal::over(budget), &budget));
    }
    let work = Box::pin(work(Call { caller, credentials }, message));
    let (told, stale) = stale::allowed(within(state, needs, work)).await;
    let told = told
        .map_err(Refusal::from)
        .flatten()
        .map_err(|refusal| refused(refusal, &budget))?;
    let mut headers = HeaderMap::new();
    tell(&told.budget.unwrap_or(budget), &mut headers);
    if stale {
        stale::mark(&mut headers);
    }
    let mut response = Response::new(told.message);
    *response.metadata_mut() = MetadataMap::from_headers(headers);
    Ok(response)
}

fn refused(refusal: Refusal, budget: &Budget) -> Status {
    let (problem, own) = refusal.into_parts();
    let mut headers = HeaderMap::new();
    tell(own.as_ref().unwrap_or(budget), &mut headers);
    let mut told = status(problem);
    *told.metadata_mut() = MetadataMap::from_headers(headers);
    told
}
