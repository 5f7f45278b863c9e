//! Ways in beside the API: what other systems say has happened, from topics of Kafka and from tables that they write.
//!
//! Whatever the way, an event becomes notifications by the rules of its tenant (`api::plan_events`) and is stored with them in
//! one transaction that also notes where it was read; only then the place from which it came is told that it is done.

#[cfg(feature = "kafka")]
mod backlog;
mod intake;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
pub(crate) mod outbox;
