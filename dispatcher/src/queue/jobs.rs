//! The fan-out of groups to external channels: page by page, each page with its cursor in one transaction, so that a
//! restart goes on where it was.

use std::sync::Arc;

use common::ids::DeliveryId;

use super::Context;
use crate::{
    channels::parse_address,
    model::{Channel, DeliveryState, NewDelivery, Reason},
    store::{JobClaim, JobPage, StoreError},
};

/// Recipients in one transaction.
const PAGE: u32 = 1000;

/// Works jobs off, page by page, until the queue stops.
pub(super) async fn run(context: Arc<Context>) {
    while !context.stop.is_cancelled() {
        match next(&context).await {
            Ok(true) => {}
            Ok(false) => rest(&context).await,
            Err(error) => {
                tracing::warn!(%error, "a group's fan-out is interrupted and goes on from its last page");
                rest(&context).await;
            }
        }
    }
}

async fn rest(context: &Context) {
    tokio::select! {
        () = context.wake.job() => {}
        // A job that another process lost.
        () = tokio::time::sleep(context.config.lease.0 / 2) => {}
        () = context.stop.cancelled() => {}
    }
}

/// Works one page of a job off. The next page is claimed anew: a fan-out that is more important does not wait for the end
/// of this one, and fan-outs of one lane take turns. False: there is none.
async fn next(context: &Context) -> Result<bool, StoreError> {
    let now = crate::model::Micros::now();
    let Some(job) = context
        .store
        .next_job(&context.worker, now, context.lease_until())
        .await?
    else {
        return Ok(false);
    };
    let page = context.store.job_page(&job, PAGE).await?;
    let deliveries = deliveries(context, &job, &page);
    let made = deliveries.len();
    let ended = page.next.is_none();
    let next_at = crate::model::Micros::now();
    if !context
        .store
        .advance_job(&job, deliveries, page.next, next_at)
        .await?
    {
        tracing::warn!(notification = %job.notification, "another worker goes on with this fan-out");
        return Ok(true);
    }
    context.wake.lane(job.lane);
    context.wake.due(job.visible_at);
    tracing::debug!(notification = %job.notification, deliveries = made, ended, "a page of a group is fanned out");
    Ok(true)
}

/// One delivery for each address that the page's contacts have in the job's channels. A contact without one gets none:
/// a row for everyone who cannot be reached would tell nothing that the contacts do not.
fn deliveries(context: &Context, job: &JobClaim, page: &JobPage) -> Vec<NewDelivery> {
    let mut deliveries = Vec::new();
    for (_, user, contact) in &page.recipients {
        for &channel in job
            .job
            .channels
            .iter()
            .filter(|channel| context.channels.is_configured(**channel))
        {
            let Some(address) = contact.address(channel) else {
                continue;
            };
            let fits = channel != Channel::Email || parse_address(address).is_ok();
            deliveries.push(NewDelivery {
                id: DeliveryId::generate(),
                channel,
                user: Some(user.clone()),
                address: Some(address.to_owned()),
                state: if fits {
                    DeliveryState::Pending
                } else {
                    DeliveryState::Dead
                },
                reason: (!fits).then_some(Reason::Borrowed("recipient_invalid")),
                due_at: job.visible_at,
                lease_until: None,
                max_attempts: context.retries.of(channel).max_attempts(),
            });
        }
    }
    deliveries
}
