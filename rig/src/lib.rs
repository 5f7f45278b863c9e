//! Starts real servers on loopback: Redis alone, with Sentinel and as a cluster, and PostgreSQL, for tests, for fault
//! injection and for `make cluster`.
//!
//! Everything here blocks, and takes milliseconds to a few seconds. Async tests call it directly or through
//! `spawn_blocking`. Each process ends with the value that stands for it; where this process dies without dropping its
//! values, a watcher outside it ends them.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`process`] | one process: started, paused, killed, its log |
//! | [`port`] | ports that nobody else on this machine gets meanwhile |
//! | [`redis`] | [`redis::Server`], [`redis::Sentinel`], [`redis::Cluster`], and a small client for their administration |
//! | [`postgres`] | [`postgres::Server`] and its replicas, [`postgres::shared`] by the tests of a program |
//! | [`pgbouncer`] | a pooler before it |
//! | [`kafka`] | a broker |
//! | [`carillon`], [`nginx`] | hubs, dispatchers and standalone servers from the executable; the edge before them |
//! | [`whole`] | all of these together, as in production |
//! | [`link`] | a connection that can be cut, or go silent |
//! | [`folder`], [`wait`], [`http`] | where a server lives; waiting for what happens in another process; asking it |

mod account;
pub mod carillon;
mod children;
mod error;
pub mod folder;
pub mod http;
pub mod kafka;
pub mod link;
pub mod nginx;
pub mod pgbouncer;
pub mod port;
pub mod postgres;
pub mod process;
pub mod redis;
mod secret;
pub mod wait;
mod watcher;
pub mod whole;

pub use error::Error;
