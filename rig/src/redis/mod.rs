//! Redis as it is in production: alone, with Sentinel, as a cluster.

mod cluster;
mod connection;
mod engine;
mod options;
mod sentinel;
mod server;
mod slots;
mod topology;

pub use cluster::{Cluster, ClusterOptions};
pub use connection::{Connection, Reply};
pub use engine::{Engine, Plan};
pub use options::{Options, Tls};
pub use sentinel::{SERVICE, Sentinel, SentinelOptions};
pub use server::{Restart, Server};
pub use slots::{SLOTS, slot_of};
