//! The dispatcher: takes a notification once, stores it, renders it, and sees it through.
//!
//! Its rooms, in the order of the data's way:
//!
//! | room | what is there |
//! | --- | --- |
//! | [`model`] | the values that all rooms speak of; no I/O |
//! | [`api`] | a request becomes a [`model::NewNotification`], and an answer |
//! | `template` | what a notification says, compiled and rendered |
//! | `events` | what other systems say has happened, read; the rules that make notifications of it |
//! | `strategy` | which channel of a chain follows: pure decisions |
//! | [`service`] | what the API calls: stores first, then tells sockets and workers |
//! | `accepted` | what follows a commit: counts, and work for the queue |
//! | [`settings`] | what can be changed while the process runs, as it holds now |
//! | [`store`] | all state; one writer, whole commits |
//! | [`spool`] | what is accepted while the database is away |
//! | [`wake`] | how workers learn of work |
//! | `queue` | claims what is due, sends it, takes back what was lost |
//! | `pausing`, `operations` | what operators ask of the queue: pause, cancel, replace, send again |
//! | `lease` | from the claim to the stored end: what is held, what follows an attempt, settling |
//! | [`channels`] | the adapters to the outside, and what their answers mean |
//! | `realtime` | frames on the bus, and waiting for their receipts |
//! | `scheduler`, `snooze` | makes the notifications that recur; brings back what readers put off |
//! | `ingest` | events from Kafka and from tables of other systems |
//! | `reading` | how reading from topics goes, for who asks |
//! | `receipts` | what readers do, from sockets and from the API alike |
//! | `revising` | who remembers something of the store is told when it was changed |
//! | `capacity` | how much may wait |
//! | [`keyring`] | API keys, and what hubs see of them |
//!
//! [`Dispatcher`] wires them from [`config`]; [`metrics`] has every metric's name.

pub mod model;

pub mod api;
mod events;
mod template;

mod accepted;
mod strategy;

pub mod service;
pub mod settings;
pub mod spool;
pub mod store;

mod capacity;
pub mod keyring;
mod lease;
pub mod operations;
mod pausing;
mod queue;
pub mod wake;

pub mod channels;
mod realtime;
mod receipts;

mod revising;

mod ingest;
mod reading;
mod scheduler;
mod snooze;

pub mod config;
mod database_url;
mod dispatcher;
mod fail_point;
pub mod metrics;

pub use self::dispatcher::{Dispatcher, Parts};
#[cfg(any(test, feature = "test-util"))]
pub use self::template::bench::PredefinedTemplates;
