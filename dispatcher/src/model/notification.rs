//! Notifications: what is said once, to whom, by which channels.

use std::borrow::Cow;

use common::{
    ids::{Name, NotificationId, TenantId},
    target::{Audience, Member},
    topic::TopicKey,
};
use serde::{Deserialize, Serialize};

use super::{Chain, Channel, DeliveryState, Lane, Micros, NewDelivery};

/// Kinds of S1.4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Blue.
    #[default]
    Info,
    /// Green.
    Success,
    /// Orange.
    Warning,
    /// Red.
    Error,
    /// Red, blinking.
    Alert,
}

impl Kind {
    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Alert => "alert",
        }
    }

    /// The kind of a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Info, Self::Success, Self::Warning, Self::Error, Self::Alert]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// How the channels of a notification stand to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Each on its own.
    #[default]
    All,
    /// In order: the next one where a channel ended other than delivered.
    Failover,
    /// In-app and realtime first; by time the next one, unless a receipt came.
    Escalate,
}

impl Strategy {
    /// The name in the API and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failover => "failover",
            Self::Escalate => "escalate",
        }
    }
}

/// What is said. Kept as one JSON text beside the columns that queries need.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Subject or headline.
    pub title: String,
    /// The text.
    pub content: String,
    /// HTML for email; without it the text is sent alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Its kind.
    #[serde(default)]
    pub kind: Kind,
    /// As the caller wrote it: a word, or S4's number as a JSON number.
    pub priority: serde_json::Value,
    /// Free category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// For clients; addresses have been taken out. An object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
    /// Who says so (S1's `source`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The template's name, where one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// A newer notification with the same key and target replaces it: in inboxes, in the queue, and where it waits for a socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse_key: Option<String>,
    /// Groups rows of the inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_key: Option<String>,
    /// Clients are asked to acknowledge.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub receipt: bool,
}

/// One row of the inbox: under which key, and what readers still have to filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRoute {
    /// The topic key of the routed member.
    pub key: TopicKey,
    /// Set for the row of an expression or of a target with `except`: it lies under `x:` + the key.
    pub filter: Option<InboxFilter>,
}

/// What a reader of an expression's row must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxFilter {
    /// All of these keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Member,
    /// None of these users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Name>,
}

/// External channels of a group: walked page by page by a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupJob {
    /// Whom.
    pub audience: Audience,
    /// By what.
    pub channels: Vec<Channel>,
}

/// Where the answer to an idempotent request is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// Whose: an API key's id or the token's `sub`; empty for the body's business key, which is the tenant's.
    pub credential: String,
    /// Which route.
    pub route: Cow<'static, str>,
    /// The caller's key.
    pub key: String,
    /// SHA-256 of the request's body; another one under the same key is refused.
    pub request_hash: Vec<u8>,
    /// The HTTP status to answer again.
    pub status: u16,
    /// The body to answer again.
    pub response: String,
}

/// A notification as it is accepted: rendered, routed, with all its deliveries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewNotification {
    /// Made before storing, so that an unclear commit can be settled by it.
    pub id: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// Who sent it: an API key's id or the token's `sub`.
    pub sender: String,
    /// For whom; none for addresses alone.
    pub audience: Option<Audience>,
    /// What is said.
    pub content: Content,
    /// Its lane.
    pub lane: Lane,
    /// How channels stand to each other.
    pub strategy: Strategy,
    /// Channels in the caller's order, by the names the caller used.
    pub channels: Vec<String>,
    /// Rows of the inbox; empty without `in_app` or without a target.
    pub inbox: Vec<InboxRoute>,
    /// Its deliveries; of chains those that begin with it, all others are made when their step begins.
    pub deliveries: Vec<NewDelivery>,
    /// With `failover` and `escalate` one for each recipient; all deliveries belong to them then.
    #[serde(default)]
    pub chains: Vec<Chain>,
    /// External channels of a group.
    pub job: Option<GroupJob>,
    /// When it was accepted.
    pub created_at: Micros,
    /// When it becomes visible and due: `created_at`, or later when scheduled. Rows get their position then.
    pub visible_at: Micros,
    /// Not sent after this.
    pub expires_at: Option<Micros>,
    /// Answers to repeat: the header's key and the body's.
    pub idempotency: Vec<IdempotencyKey>,
}

/// What became of one accepted notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Committed and flushed.
    New,
    /// Durable while the database is away, and stored when it is back.
    Spooled,
    /// The key was known with the same request: this was answered the first time.
    Repeat {
        /// The HTTP status.
        status: u16,
        /// The body.
        response: String,
    },
    /// The key was used for another request.
    Mismatch,
}

/// A stored notification as the API shows it.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// Who sent it.
    pub sender: String,
    /// For whom.
    pub audience: Option<Audience>,
    /// What is said.
    pub content: Content,
    /// Its lane.
    pub lane: Lane,
    /// How channels stand to each other.
    pub strategy: Strategy,
    /// Channels by the names the caller used.
    pub channels: Vec<String>,
    /// With `failover` and `escalate` one for each recipient.
    pub chains: Vec<Chain>,
    /// When it was accepted.
    pub created_at: Micros,
    /// When it became or becomes visible.
    pub visible_at: Micros,
    /// Not sent after this.
    pub expires_at: Option<Micros>,
    /// Whether it was taken back for everyone.
    pub withdrawn: bool,
    /// Whether something is still to come: a delivery, or a group's fan-out that makes more of them.
    pub open: bool,
}

/// One word for the whole (S3's `status`): what the deliveries' states amount to, and whether something is still to come
/// that is not among them.
#[must_use]
pub fn overall_status(
    states: impl IntoIterator<Item = DeliveryState>,
    mut open: bool,
    scheduled: bool,
) -> &'static str {
    let (mut sent, mut failed, mut cancelled, mut any) = (false, false, false, false);
    for state in states {
        any = true;
        match state {
            DeliveryState::Pending | DeliveryState::Running => open = true,
            DeliveryState::Delivered => sent = true,
            DeliveryState::Dead | DeliveryState::Expired => failed = true,
            DeliveryState::Cancelled => cancelled = true,
            DeliveryState::Skipped | DeliveryState::Suppressed => {}
        }
    }
    match (open, sent, failed, cancelled) {
        (true, ..) if scheduled => "scheduled",
        (true, ..) => "pending",
        (_, true, ..) => "sent",
        (_, _, true, _) => "failed",
        (_, _, _, true) => "cancelled",
        _ if any => "skipped",
        _ => "sent",
    }
}
