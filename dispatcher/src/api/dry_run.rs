//! A dry run: what would become of a notification, and nothing of it is stored.

use common::target::Audience;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    accept::{Answered, answer, status_of},
    chain_view::ChainView,
    plan::Plan,
    view::mask,
};
use crate::model::{Channel, Kind, Micros, NewDelivery, Strategy};

/// Whether it is meant.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct DryRunQuery {
    /// Answers what would be done. Nothing is stored or sent, and no idempotency key is used up.
    pub(super) dry_run: bool,
}

/// The decision on a notification.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DryRun {
    /// Always true.
    dry_run: bool,
    /// What the answer to the real request would say: `scheduled`, `pending`, `sent`, `failed`.
    status: &'static str,
    /// Whom it is for.
    #[schema(value_type = Option<Object>)]
    to: Option<Audience>,
    /// By what, as the caller wrote it.
    channels: Vec<String>,
    /// How the channels stand to each other.
    strategy: Strategy,
    /// The lane of the queue: `critical`, `high`, `medium`, `low`.
    lane: &'static str,
    /// As it was given.
    priority: Value,
    /// Its kind.
    kind: Kind,
    /// Headline, rendered.
    title: String,
    /// The text, rendered.
    content: String,
    /// What it would be made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<TemplateUsed>,
    /// When it would become visible, where it is scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_at: Option<String>,
    /// Not sent after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// What it would replace.
    #[serde(skip_serializing_if = "Option::is_none")]
    collapse_key: Option<String>,
    /// Rows of the inbox: one for each user that is named, one for each group.
    inbox_rows: usize,
    /// With `failover` and `escalate` one for each recipient; the deliveries are those that would begin with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chains: Vec<ChainView>,
    /// One for each recipient and channel that is known now.
    deliveries: Vec<PlannedDelivery>,
    /// Channels by which the group's members would be told, each at the addresses of its contact, page by page.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fan_out: Vec<&'static str>,
    /// For each channel, by the caller's name for it, whether it would be accepted for sending.
    #[schema(value_type = Object)]
    results: Map<String, Value>,
}

/// A template at a version.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct TemplateUsed {
    name: String,
    version: u32,
}

/// A delivery that would be made.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct PlannedDelivery {
    /// By what.
    channel: &'static str,
    /// For whom.
    user_id: Option<String>,
    /// Where to, masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// With which state it would begin: `pending`, `running`, `delivered`, or `dead`.
    state: &'static str,
    /// Why it would not be sent: `no_address`, `not_configured`.
    reason: Option<String>,
    /// When it would be due.
    due_at: String,
}

impl PlannedDelivery {
    fn of(delivery: &NewDelivery) -> Self {
        Self {
            channel: delivery.channel.as_str(),
            user_id: delivery.user.as_ref().map(|user| user.as_str().to_owned()),
            address: delivery.address.as_deref().map(mask),
            state: delivery.state.as_str(),
            reason: delivery.reason.as_deref().map(str::to_owned),
            due_at: delivery.due_at.rfc3339(),
        }
    }
}

impl DryRun {
    pub(super) fn of(plan: &Plan) -> Self {
        let new = &plan.notification;
        let template = new.content.template.clone().zip(plan.template_version);
        Self {
            dry_run: true,
            status: status_of(new),
            to: new.audience.clone(),
            channels: new.channels.clone(),
            strategy: new.strategy,
            lane: new.lane.as_str(),
            priority: new.content.priority.clone(),
            kind: new.content.kind,
            title: new.content.title.clone(),
            content: new.content.content.clone(),
            template: template.map(|(name, version)| TemplateUsed { name, version }),
            scheduled_at: (new.visible_at > new.created_at).then(|| new.visible_at.rfc3339()),
            expires_at: new.expires_at.map(Micros::rfc3339),
            collapse_key: new.content.collapse_key.clone(),
            inbox_rows: new.inbox.len(),
            chains: new.chains.iter().map(ChainView::of).collect(),
            deliveries: new.deliveries.iter().map(PlannedDelivery::of).collect(),
            fan_out: new
                .job
                .iter()
                .flat_map(|job| job.channels.iter().copied().map(Channel::as_str))
                .collect(),
            results: plan
                .results
                .iter()
                .map(|(name, accepted)| (name.clone(), Value::Bool(*accepted)))
                .collect(),
        }
    }
}

/// The answer to a dry run.
pub(super) fn answered(plan: &Plan) -> Answered {
    Answered::new(StatusCode::OK, answer(&DryRun::of(plan)))
}
