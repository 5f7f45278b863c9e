//! Values between the model and columns.

use common::ids::{Name, TenantId};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::StoreError;
use crate::model::{Channel, DeliveryState, Lane};

/// A column that holds a structure.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::unreadable("value", error))
}

/// A column that holds a structure.
pub(super) fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::unreadable(what, error))
}

/// A count that the database gives as a signed number.
pub(super) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// A small number that the database gives as a long one.
pub(super) fn small(what: &str, value: i64) -> Result<u32, StoreError> {
    u32::try_from(value).map_err(|error| StoreError::unreadable(what, error))
}

/// Ids as a parameter.
pub(super) fn ids(ids: impl IntoIterator<Item = Uuid>) -> Vec<Uuid> {
    ids.into_iter().collect()
}

pub(super) fn tenant_of(text: &str) -> Result<TenantId, StoreError> {
    TenantId::new(text).map_err(|error| StoreError::unreadable("tenant", error))
}

pub(super) fn user_of(text: &str) -> Result<Name, StoreError> {
    Name::new(text).map_err(|error| StoreError::unreadable("user", error))
}

pub(super) fn lane_of(number: i64) -> Result<Lane, StoreError> {
    Lane::ALL
        .into_iter()
        .find(|lane| i64::from(lane.number()) == number)
        .ok_or_else(|| StoreError::unreadable("lane", number))
}

pub(super) fn channel_of(text: &str) -> Result<Channel, StoreError> {
    text.parse()
        .map_err(|error| StoreError::unreadable("channel", error))
}

pub(super) fn state_of(text: &str) -> Result<DeliveryState, StoreError> {
    DeliveryState::parse(text).ok_or_else(|| StoreError::unreadable("state", text))
}
