//! Chains: the channels of a notification for one recipient, taken one after the other.
//!
//! What follows what is decided in [`crate::strategy`]; here is only what is kept.

use common::ids::{DeliveryId, Name};
use serde::{Deserialize, Serialize};

use uuid::Uuid;

use super::{Channel, DeliveryState, Micros, NewDelivery, Reason, Strategy};

/// What the last two bytes of the ids of chains and of their deliveries are. Of 65,536 other ids one has them too, which
/// costs a look that finds nothing.
const MARK: [u8; 2] = [0xc4, 0xa1];

/// A chain's id, and with it a family of ids for its deliveries: UUIDs of version 7 that differ in their twelve bits behind
/// the version. So the chain of a delivery is known from the delivery's id alone, and who ends deliveries that belong to
/// none asks for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Uuid);

impl ChainId {
    /// The most deliveries that a chain has.
    pub const DELIVERIES: u16 = 0x0fff;

    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = DeliveryId::generate().0.into_bytes();
        bytes[14..].copy_from_slice(&MARK);
        Self(Uuid::from_bytes(numbered(bytes, 0)))
    }

    /// The id of the chain's delivery of this number, from 1 to [`Self::DELIVERIES`].
    #[must_use]
    pub fn delivery(self, number: u16) -> DeliveryId {
        debug_assert!((1..=Self::DELIVERIES).contains(&number), "{number}");
        DeliveryId(Uuid::from_bytes(numbered(self.0.into_bytes(), number)))
    }

    /// The chain that a delivery may belong to; none: it belongs to none.
    #[must_use]
    pub fn of(delivery: DeliveryId) -> Option<Self> {
        let bytes = delivery.0.into_bytes();
        let is_numbered = bytes[6] & 0x0f != 0 || bytes[7] != 0;
        (bytes[14..] == MARK && is_numbered).then(|| Self(Uuid::from_bytes(numbered(bytes, 0))))
    }
}

fn numbered(mut bytes: [u8; 16], number: u16) -> [u8; 16] {
    let [high, low] = (number & ChainId::DELIVERIES).to_be_bytes();
    bytes[6] = (bytes[6] & 0xf0) | high;
    bytes[7] = low;
    bytes
}

/// How far a notification has come with one user, by receipts: each level implies those before it.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// No receipt has come.
    #[default]
    Nothing,
    /// A device has it, or a channel other than the inbox took it.
    Delivered,
    /// It was on the screen.
    Seen,
    /// Read, put away or deleted.
    Read,
    /// Acted upon.
    Acknowledged,
}

impl Reached {
    /// The name in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Delivered => "delivered",
            Self::Seen => "seen",
            Self::Read => "read",
            Self::Acknowledged => "acknowledged",
        }
    }

    /// A level that a step can wait for, by its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Delivered, Self::Seen, Self::Read, Self::Acknowledged]
            .into_iter()
            .find(|reached| reached.as_str() == text)
    }
}

/// Where a chain stands. All but `Open` are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChainState {
    /// A step is on the way, or one is still to come.
    Open,
    /// It came to what it is for: a channel delivered, or a receipt made further steps needless.
    Done,
    /// Every step was taken, and none of them came to that.
    Exhausted,
    /// Taken back.
    Cancelled,
    /// The notification's time ran out.
    Expired,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun: nothing of it is in the queue.
    Pending,
    /// Its deliveries are on the way.
    Started,
    /// At least one of its deliveries is delivered, and none is on the way.
    Delivered,
    /// All its deliveries ended otherwise.
    Failed,
    /// Never begun, or stopped before it was sent.
    Cancelled,
}

/// One delivery of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDelivery {
    /// Made when the chain is; the same in all its attempts.
    pub id: DeliveryId,
    /// Where to, for external channels.
    pub address: Option<String>,
    /// Attempts before it is dead.
    pub max_attempts: u32,
    /// How often it went back into the queue.
    #[serde(default)]
    pub returns: u32,
    /// How it ended: also before it began, where it has no address or no configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<(DeliveryState, Option<Reason>)>,
}

impl StepDelivery {
    /// As the step's row in the queue.
    #[must_use]
    pub fn new_delivery(&self, chain: &Chain, channel: Channel, due_at: Micros) -> NewDelivery {
        let (state, reason) = self.end.clone().unwrap_or((DeliveryState::Pending, None));
        NewDelivery {
            id: self.id,
            channel,
            user: chain.user.clone(),
            address: self.address.clone(),
            state,
            reason,
            due_at,
            lease_until: None,
            max_attempts: self.max_attempts,
        }
    }
}

/// One channel of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// By what.
    pub channel: Channel,
    /// `escalate`: when it begins, in microseconds after the chain did.
    #[serde(default)]
    pub after: i64,
    /// `escalate`: it does not begin once the notification has come so far; none for those that begin with the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<Reached>,
    /// `failover`: outcomes other than delivered after which it is left.
    #[serde(default)]
    pub attempts: u32,
    /// Where it stands.
    pub state: StepState,
    /// Why, where it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Micros>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Micros>,
    /// It failed, and administrators know.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// One for each address.
    pub deliveries: Vec<StepDelivery>,
}

impl Step {
    /// Whether it failed, and administrators have not been told.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.state == StepState::Failed && !self.told
    }
}

/// The channels of one notification for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its id.
    pub id: ChainId,
    /// For whom; none for addresses alone.
    pub user: Option<Name>,
    /// `failover` or `escalate`.
    pub strategy: Strategy,
    /// Where it stands.
    pub state: ChainState,
    /// Why, where it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What receipts said so far.
    #[serde(default)]
    pub reached: Reached,
    /// When the notification becomes visible, and the first step due.
    pub begins_at: Micros,
    /// No step begins at or after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Micros>,
    /// A channel failed, and administrators have not been told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untold: bool,
    /// In order.
    pub steps: Vec<Step>,
}

impl Chain {
    /// Whether something may still happen.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == ChainState::Open
    }

    /// When time moves the chain: a step of `escalate` is due, or it is too late for all of them.
    #[must_use]
    pub fn next_at(&self) -> Option<Micros> {
        if !self.is_open() || self.strategy != Strategy::Escalate {
            return None;
        }
        let pending = self.steps.iter().filter(|step| step.state == StepState::Pending);
        let due = pending.map(|step| self.due_at(step)).min()?;
        Some(self.expires_at.map_or(due, |expires_at| expires_at.min(due)))
    }

    /// When a step of `escalate` begins.
    #[must_use]
    pub fn due_at(&self, step: &Step) -> Micros {
        Micros(self.begins_at.0.saturating_add(step.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deliverys_id_names_its_chain() {
        let chain = ChainId::generate();
        for number in [1, 2, 255, 256, ChainId::DELIVERIES] {
            let delivery = chain.delivery(number);
            assert_eq!(ChainId::of(delivery), Some(chain));
            assert_eq!(delivery.0.get_version_num(), 7);
            assert_ne!(ChainId::generate().delivery(number), delivery);
        }
        assert_ne!(chain.delivery(1), chain.delivery(2));
        assert_eq!(ChainId::of(DeliveryId(chain.0)), None);
        let others = (0..1000).filter(|_| ChainId::of(DeliveryId::generate()).is_some());
        assert!(
            others.count() < 10,
            "deliveries that belong to none are known by their ids"
        );
    }
}
