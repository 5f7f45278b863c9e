//! The store: what was accepted is here, and every state of it.
//!
//! Every write goes through one writer task, which commits what waits in one transaction (`writer`); reads use
//! connections of their own and see whole commits. Statements stand in one catalogue per database (`sqlite`).

mod accept;
mod access;
mod api_keys;
mod audit;
mod chains;
mod claim;
mod codec;
mod collapse;
mod connect;
mod dead;
mod deliveries;
mod error;
mod events;
mod fair;
mod feed;
mod handle;
mod held_chains;
mod hints;
mod history;
mod horizon;
mod idempotency;
mod inbox;
mod jobs;
mod keys;
mod link;
mod marks;
mod migrate;
mod operate;
mod pages;
mod pauses;
#[cfg(test)]
mod plans;
mod positions;
mod postgres;
mod probe;
mod queue;
mod records;
mod retention;
mod revisions;
mod rows;
mod rules;
mod schedules;
#[cfg(test)]
mod schema;
mod settings;
mod sight;
mod snoozes;
mod sql;
mod sqlite;
pub(crate) mod stale;
mod stops;
mod totals;
mod transaction;
mod types;
mod walk;
mod watch;
mod writer;

pub(crate) use self::collapse::Standing;
use self::types::Reach;
pub use self::{
    handle::Store,
    migrate::{MigrationStatus, migrate_down, migrate_status, migrate_up},
    probe::{NotThere, probe},
    rules::RuleWritten,
    settings::SettingWritten,
    types::{
        AttemptStart, ChangesResult, ClaimRequest, ClaimRules, FailedOver, JobClaim, JobPage, LaneDepth,
        Mark, Marked, OnUnknown, Place, ReadAll, Rescued, Server, StoreConfig, StoreError, TenantStats,
    },
    watch::Watch,
};
