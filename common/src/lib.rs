//! What hub and dispatcher share by contract, and the infrastructure both stand on.
//!
//! In the order of the data's way:
//! - [`config`], [`telemetry`], [`shutdown`]: how a process starts and ends;
//! - [`http`]: listeners, errors as problem+json; [`grpc`]: the same for gRPC; [`token`]: what callers show; [`credential`]: who they are;
//!   [`audit`]: what they changed;
//! - [`ids`], [`topic`], [`target`]: whom something is for;
//! - [`policy`]: what holds for a topic; [`message`], [`bus`]: how it travels between publishers and hub nodes;
//! - [`protocol`]: what clients and hubs say to each other; [`receipts`]: what hubs tell dispatchers;
//! - [`backoff`]: when to try again.
//!
//! Only what both services use, and what is part of a contract or pure infrastructure, may live here.

pub mod audit;
pub mod backoff;
pub mod bus;
pub mod config;
pub mod credential;
pub mod grpc;
pub mod http;
pub mod ids;
pub mod message;
#[cfg(feature = "test-util")]
pub mod patience;
pub mod policy;
pub mod protocol;
pub mod receipts;
pub mod redis;
pub mod shutdown;
pub mod target;
pub mod telemetry;
pub mod token;
pub mod topic;
