//! What answers show of a chain: each step, where it stands, and why.

use common::ids::DeliveryId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{Chain, ChainState, Micros, Reached, Step, StepState, Strategy};

/// The channels of one recipient, in order.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChainView {
    /// For whom; none for addresses alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// `open`, `done`, `exhausted`, `cancelled` or `expired`.
    pub state: ChainState,
    /// Why it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How far the notification has come with the user, by receipts.
    pub reached: Reached,
    /// In order.
    pub steps: Vec<StepView>,
}

/// One channel of a chain.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StepView {
    /// By what.
    pub channel: &'static str,
    /// `pending`, `started`, `delivered`, `failed` or `cancelled`.
    pub state: StepState,
    /// Why it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `escalate`: it does not begin when the notification has come so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unless: Option<Reached>,
    /// `escalate`: when it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Its deliveries; those of a step that has not begun are not listed yet.
    #[schema(value_type = Vec<String>)]
    pub deliveries: Vec<DeliveryId>,
}

impl ChainView {
    pub(crate) fn of(chain: &Chain) -> Self {
        Self {
            user_id: chain.user.as_ref().map(|user| user.as_str().to_owned()),
            state: chain.state,
            reason: chain.reason.as_deref().map(str::to_owned),
            reached: chain.reached,
            steps: chain.steps.iter().map(|step| StepView::of(chain, step)).collect(),
        }
    }
}

impl StepView {
    fn of(chain: &Chain, step: &Step) -> Self {
        let waits = chain.strategy == Strategy::Escalate && step.state == StepState::Pending;
        let deliveries = if step.started_at.is_some() {
            step.deliveries.iter().map(|one| one.id).collect()
        } else {
            Vec::new()
        };
        Self {
            channel: step.channel.as_str(),
            state: step.state,
            reason: step.reason.as_deref().map(str::to_owned),
            unless: step.unless,
            due_at: waits.then(|| chain.due_at(step).rfc3339()),
            started_at: step.started_at.map(Micros::rfc3339),
            ended_at: step.ended_at.map(Micros::rfc3339),
            deliveries,
        }
    }
}
