//! PostgreSQL's catalogue.

pub(super) mod connect;
pub(super) mod schedules;
pub(super) use super::sqlite::{accept, inbox, queue, records};
