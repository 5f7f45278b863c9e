//! The queue: nothing is forgotten, nothing is done twice that is known to be done, and lanes do not wait for each other.

mod claims;
mod fairness;
mod jobs;
mod processes;
mod recovery;
mod soak;
mod times;

use dispatcher::model::{Lane, NewNotification};

use crate::support::email;

/// An email in this lane.
fn in_lane(lane: Lane) -> NewNotification {
    NewNotification {
        lane,
        ..email("user@example.com")
    }
}
