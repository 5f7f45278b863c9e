//! Values between the model and columns.

use common::ids::{Name, TenantId};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::StoreError;
use crate::model::{Channel, Lane};

/// An id as it stands in a JSON parameter.
pub(super) fn hex(id: Uuid) -> String {
    id.simple().to_string()
}

/// A parameter that holds many rows, or a column that holds a structure.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::unreadable("value", error))
}

/// A column that holds a structure.
pub(super) fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::unreadable(what, error))
}

/// A count that SQLite gives as a signed number.
pub(super) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// Ids as a parameter.
pub(super) fn ids(ids: impl IntoIterator<Item = Uuid>) -> Result<String, StoreError> {
    json(&ids.into_iter().map(hex).collect::<Vec<_>>())
}

pub(super) fn tenant_of(text: &str) -> Result<TenantId, StoreError> {
    TenantId::new(text).map_err(|error| StoreError::unreadable("tenant", error))
}

pub(super) fn user_of(text: &str) -> Result<Name, StoreError> {
    Name::new(text).map_err(|error| StoreError::unreadable("user", error))
}

pub(super) fn lane_of(number: i16) -> Result<Lane, StoreError> {
    Lane::ALL
        .into_iter()
        .find(|lane| lane.number() == number)
        .ok_or_else(|| StoreError::unreadable("lane", number))
}

pub(super) fn channel_of(text: &str) -> Result<Channel, StoreError> {
    text.parse()
        .map_err(|error| StoreError::unreadable("channel", error))
}
