//! Ways in beside the API, on real brokers and databases.

mod faults;
mod kafka;
mod outbox;
