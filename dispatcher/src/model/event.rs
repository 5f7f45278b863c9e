//! Events of other systems, and the rules that make notifications of them.

use std::sync::Arc;

use common::ids::TenantId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Micros, NewNotification};

/// What another system says has happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its type, such as `document.indexed`.
    pub kind: String,
    /// Its name, unique at its source.
    pub id: Option<String>,
    /// Who says so.
    pub source: Option<String>,
    /// Whose, as it says itself.
    pub tenant: Option<String>,
    /// What it is about.
    pub subject: Option<String>,
    /// When it happened, as it says itself.
    pub time: Option<String>,
    /// What it brings. Of the seeds' bodies all of it.
    pub data: Value,
}

/// Where an event was read. It tells the event from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventPlace {
    /// `kafka:<topic>/<partition>`, `outbox:<table>`.
    pub origin: Arc<str>,
    /// Its offset, or its number.
    pub position: i64,
    /// Its time there, as the origin counts it: a topic that was made anew counts its offsets from the start again.
    pub stamped: i64,
}

/// An event with what it became.
#[derive(Debug, Clone)]
pub struct IncomingEvent {
    /// Where it was read.
    pub place: EventPlace,
    /// Whose.
    pub tenant: TenantId,
    /// Its type.
    pub kind: String,
    /// With `id` its name, which it has wherever it is read.
    pub source: Option<String>,
    /// With `source` its name.
    pub id: Option<String>,
    /// At least one, without idempotency keys.
    pub notifications: Vec<NewNotification>,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleBody {
    /// The type of the events that it is about: `document.indexed`, all that begin the same by `document.*`, or `*`.
    pub event: String,
    /// An expression on the event, for example `amount > 100 and event.source == 'shop'`; without one all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The notification, as for `POST /api/v1/notifications`, without times and idempotency key. Texts hold `{{ … }}`; one
    /// that is nothing else takes the value itself, and where that is `none` the field is left out.
    #[schema(value_type = Object)]
    pub notification: Map<String, Value>,
    /// Default true. A rule that is off hides one of the same name that the configuration has.
    #[serde(default = "enabled", skip_serializing_if = "Clone::clone")]
    pub enabled: bool,
}

fn enabled() -> bool {
    true
}

/// A rule that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRule {
    /// Unique in the tenant.
    pub name: String,
    /// From 1; 0 for those of the configuration.
    pub version: u32,
    /// What it says.
    pub body: RuleBody,
}

/// A rule as it was written once.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleVersion {
    /// The rule's name.
    pub name: String,
    /// From 1.
    pub version: u32,
    /// None: it was deleted.
    pub body: Option<RuleBody>,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub created_at: Micros,
}
