//! Deliveries: one recipient of a notification by one channel, and the attempts at it.

use common::{
    ids::{DeliveryId, Name, NotificationId, TenantId},
    target::Audience,
};
use serde::{Deserialize, Serialize};

use super::{Channel, Content, Lane, Micros};

/// The state machine (`docs/delivery-states.md`). `pending` and `running` are on the way, the others are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Due now or later.
    Pending,
    /// Leased by a worker.
    Running,
    /// The channel took it.
    Delivered,
    /// Realtime only: nobody was online.
    Skipped,
    /// Policy said no.
    Suppressed,
    /// Its time ran out.
    Expired,
    /// Taken back before it was sent.
    Cancelled,
    /// Given up; the reason says why. Can be redriven.
    Dead,
}

impl DeliveryState {
    /// The name in documents and rows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Delivered => "delivered",
            Self::Skipped => "skipped",
            Self::Suppressed => "suppressed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// The state of a row's text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Running,
            Self::Delivered,
            Self::Skipped,
            Self::Suppressed,
            Self::Expired,
            Self::Cancelled,
            Self::Dead,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }

    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// A short, stable reason (`not_configured`, `no_address`, `recipient_invalid`, `attempts_exhausted` …).
pub type Reason = std::borrow::Cow<'static, str>;

/// A delivery as it is accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewDelivery {
    /// The same in all its attempts.
    pub id: DeliveryId,
    /// By what.
    pub channel: Channel,
    /// For whom; none for an address alone or a group's realtime.
    pub user: Option<Name>,
    /// Where to, for external channels.
    pub address: Option<String>,
    /// `Pending`; `Running` for realtime that the accepting node publishes itself right after the commit (leased with
    /// token 1 until `lease_until`); or a terminal state.
    pub state: DeliveryState,
    /// Why, for a terminal state.
    pub reason: Option<Reason>,
    /// When it may be claimed.
    pub due_at: Micros,
    /// With `Running`: until when the accepting node holds it.
    pub lease_until: Option<Micros>,
    /// Attempts before it is dead.
    pub max_attempts: u32,
}

/// A delivery as the API shows it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// By what.
    pub channel: Channel,
    /// For whom.
    pub user: Option<Name>,
    /// Where to.
    pub address: Option<String>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why.
    pub reason: Option<String>,
    /// When it is due, or was.
    pub due_at: Micros,
    /// Last change.
    pub updated_at: Micros,
    /// In order.
    pub attempts: Vec<Attempt>,
}

/// One try.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// Committed before the provider was called.
    pub started_at: Micros,
    /// None: on the way, or unknown.
    pub finished_at: Option<Micros>,
    /// Name of the outcome class; `unknown` when a rescue found it open.
    pub outcome: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What the provider said, shortened and masked.
    pub response: Option<String>,
}

/// A delivery that this worker holds, with all that the channel needs.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its id.
    pub id: DeliveryId,
    /// Its notification.
    pub notification: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// By what.
    pub channel: Channel,
    /// For whom.
    pub user: Option<Name>,
    /// Where to.
    pub address: Option<String>,
    /// Its lane.
    pub lane: Lane,
    /// The fencing token of this claim; every later write names it.
    pub token: i64,
    /// Attempts that were begun before this claim.
    pub attempts: u32,
    /// Attempts before it is dead.
    pub max_attempts: u32,
    /// Not sent after this.
    pub expires_at: Option<Micros>,
    /// When the notification was accepted.
    pub created_at: Micros,
    /// When it became visible; the age of a frame counts from here.
    pub visible_at: Micros,
    /// What is said.
    pub content: Content,
    /// To whom, for realtime.
    pub audience: Option<Audience>,
    /// Cancelled or withdrawn: not to be sent.
    pub cancelled: bool,
    /// Its attempt is on record: it was begun with the claim.
    pub begun: bool,
}

/// What a channel says of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The channel took it.
    Delivered,
    /// Realtime: nobody is online.
    Skipped,
    /// A passing fault of ours or the provider's.
    Retry,
    /// The provider asks for a pause.
    Throttled {
        /// Not before.
        until: Micros,
    },
    /// The address is wrong or gone.
    RecipientInvalid,
    /// The provider will never take this.
    Rejected,
    /// The channel has no working configuration.
    NotConfigured,
    /// The notification's time ran out.
    Expired,
    /// Nobody can tell whether it went out.
    Unknown,
}

impl Outcome {
    /// The name in attempts and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Skipped => "skipped",
            Self::Retry => "retry",
            Self::Throttled { .. } => "throttled",
            Self::RecipientInvalid => "recipient_invalid",
            Self::Rejected => "rejected",
            Self::NotConfigured => "not_configured",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

/// The end of a claim: what the worker writes, guarded by the token.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// The token of the claim.
    pub token: i64,
    /// The next state: a terminal one, or `Pending` with `due_at`.
    pub state: DeliveryState,
    /// When it is due again, for `Pending`.
    pub due_at: Option<Micros>,
    /// Why.
    pub reason: Option<Reason>,
    /// The attempt's outcome; none where none was begun, or where it stays open.
    pub outcome: Option<&'static str>,
    /// What the provider said, shortened and masked.
    pub response: Option<String>,
}
