//! The body of a notification: the canonical fields and every alias of the systems that Carillon replaces.
//!
//! Here is only what may be written. What it means is in [`super::draft`].

use common::target::Audience;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// One channel of a chain.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepBody {
    /// One of `channels`; each at most once.
    pub channel: String,
    /// With `escalate`, for channels other than `in_app` and `realtime`: how long after the step before it begins, in seconds
    /// or as a duration such as `5m`. Default: 5 s with `unless` `delivered`, else 5 m.
    pub after: Option<Value>,
    /// With `escalate`: it does not begin when the notification has come so far. Default: `stop_on`.
    pub unless: Option<String>,
    /// With `failover`: instead of `attempts_before_next`.
    pub attempts: Option<u32>,
}

/// A notification to create. Unknown fields are refused; of several names for one thing, one is enough, and two that
/// differ are refused.
///
/// Writing it gives one text for bodies that say the same.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotificationBody {
    /// Whom it is for: `{"user":"u1"}`, `{"users":[…]}`, `{"role":"r"}`, `{"store":"s"}`, `{"topic":"t"}`,
    /// `{"tenant":true}`, `{"everyone":true}`, `{"all_of":[…]}`, `{"any_of":[…]}`, with `"except"` beside.
    #[schema(value_type = Option<Object>)]
    pub to: Option<Audience>,
    /// Headline; the subject of an email.
    pub title: Option<String>,
    /// The text.
    pub content: Option<String>,
    /// HTML for email, beside the text.
    pub html: Option<String>,
    /// `info`, `success`, `warning`, `error`, `alert`. Default `info`.
    pub kind: Option<String>,
    /// `critical`, `urgent`, `high`, `medium`, `normal`, `low`, or 1 (most important) to 5. Default `normal`.
    pub priority: Option<Value>,
    /// Free category, at most 256 bytes.
    pub category: Option<String>,
    /// `in_app`, `realtime`, `email`, `sms`, `wecom`, `wecom_robot`, `feishu`, `telegram`, `slack`, `discord`,
    /// `webhook`, `push`. Default: the template's, else `in_app` and `realtime`.
    pub channels: Option<Vec<String>>,
    /// How the channels stand to each other. `all`: each on its own. `failover`: in order, until one delivers. `escalate`:
    /// in-app and realtime first, and by time the next ones, unless a receipt comes. The last two are for single users, each
    /// of several users, or addresses alone (`failover`).
    pub strategy: Option<String>,
    /// With `failover` and `escalate`, instead of `channels`: with more to say of each.
    pub steps: Option<Vec<StepBody>>,
    /// With `failover`: outcomes other than delivered after which a channel is left, from 1 to 100. Default 1.
    pub attempts_before_next: Option<u32>,
    /// With `escalate`: `delivered`, `seen`, `read` or `acknowledged`; no further step begins then. Default `read`.
    pub stop_on: Option<String>,
    /// Name or id of a template; it gives title, content, and where the body names none, channels, priority and kind.
    pub template: Option<String>,
    /// Values for the template.
    #[schema(value_type = Option<Object>)]
    pub variables: Option<Map<String, Value>>,
    /// BCP 47 language.
    pub locale: Option<String>,
    /// For clients, forwarded as it is.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Map<String, Value>>,
    /// When it becomes visible and is sent, RFC 3339 with an offset. The past means now.
    pub schedule_at: Option<String>,
    /// Instead: after so many seconds, or a duration such as `10m` or `PT10M`.
    pub delay: Option<Value>,
    /// Not sent after this, RFC 3339 with an offset.
    pub expires_at: Option<String>,
    /// It replaces the one before it with the same key and target: in inboxes, and where that one still waits.
    pub collapse_key: Option<String>,
    /// Groups rows of the inbox.
    pub group_key: Option<String>,
    /// The same key with the same body is one notification of the tenant, for 24 hours, whichever route it comes by.
    pub idempotency_key: Option<String>,
    /// Clients are asked to acknowledge.
    pub receipt: Option<bool>,
    /// Who says so; echoed.
    pub source: Option<String>,
    /// Answers what would be done, and does nothing; like `?dry_run=true`.
    #[serde(skip_serializing)]
    pub dry_run: Option<bool>,

    /// Alias of `content`. Without any target, address and channel it means everyone of the tenant.
    pub message: Option<String>,
    /// Alias of `title`.
    pub subject: Option<String>,
    /// Alias of `kind`.
    #[serde(rename = "type")]
    pub kind_alias: Option<String>,
    /// A single user; wins over `role` and `store_id`.
    pub user_id: Option<String>,
    /// Several users, at most 1000.
    pub user_ids: Option<Vec<String>>,
    /// A role; with `store_id`, who has both.
    pub role: Option<String>,
    /// A store; with `role`, who has both.
    pub store_id: Option<String>,
    /// Has to be the caller's own.
    pub tenant_id: Option<String>,
    /// One of `channels`.
    pub channel: Option<String>,
    /// One of `channels`.
    pub channel_type: Option<String>,
    /// An address: of email, a phone number, a URL, or an id of the channel.
    pub recipient: Option<String>,
    /// Addresses.
    pub recipients: Option<Vec<String>>,
    /// An address.
    pub target: Option<String>,
    /// Alias of `template`.
    pub template_name: Option<String>,
    /// Alias of `template`.
    pub template_id: Option<String>,
    /// Alias of `variables`.
    #[schema(value_type = Option<Object>)]
    pub template_vars: Option<Map<String, Value>>,
    /// Alias of `data`.
    #[schema(value_type = Option<Object>)]
    pub extra_data: Option<Map<String, Value>>,
    /// Like `data`; its `email`, `phone`, `webhook_url`, `platform` and `device_token` are addresses and reach no client.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Alias of `schedule_at`.
    pub scheduled_at: Option<String>,
}
