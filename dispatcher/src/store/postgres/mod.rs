//! PostgreSQL's catalogue.

pub(super) mod connect;
pub(super) use super::sqlite::{accept, inbox, operate, queue, records};
