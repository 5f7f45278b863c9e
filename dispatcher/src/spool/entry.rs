//! What stands in the stream: a request's notifications, one JSON text a line.

use super::{
    link::Call,
    names::{Names, hex},
};
use crate::model::{IdempotencyKey, NewNotification};

/// The version of the form. A dispatcher that does not know it puts the entry aside.
pub(super) const VERSION: &str = "1";

/// The answer under an idempotency key, as it is kept: status, space, body.
fn kept(key: &IdempotencyKey) -> String {
    format!("{} {}", key.status, key.response)
}

/// The status and the body of an answer that was kept.
pub(super) fn told(kept: &str) -> Option<(u16, String)> {
    let (status, body) = kept.split_once(' ')?;
    Some((status.parse().ok()?, body.to_owned()))
}

/// Adds notifications and their keys to a call of `append.lua`.
///
/// # Errors
/// What serde says of a notification.
pub(super) fn lay_out(
    call: Call,
    names: &Names,
    notifications: &[NewNotification],
) -> Result<Call, serde_json::Error> {
    let mut call = call.with(notifications.len().to_string());
    for new in notifications {
        call = call
            .with(serde_json::to_string(new)?)
            .with(new.idempotency.len().to_string());
        for key in &new.idempotency {
            let name = names.key(&new.tenant, key);
            let number = match call.keys.iter().position(|known| *known == name) {
                Some(at) => at + 1,
                None => {
                    call.keys.push(name);
                    call.keys.len()
                }
            };
            call = call
                .with(number.to_string())
                .with(if key.credential.is_empty() { "0" } else { "1" })
                .with(hex(&key.request_hash))
                .with(kept(key));
        }
    }
    Ok(call)
}

/// The notifications of an entry.
///
/// # Errors
/// Why they cannot be read.
pub(super) fn read(version: &str, text: &str) -> Result<Vec<NewNotification>, String> {
    if version != VERSION {
        return Err(format!("version {version} is not known here"));
    }
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|error| error.to_string()))
        .collect()
}
