//! Starts real servers on loopback: Redis alone, with Sentinel and as a cluster, for tests, for fault injection and for
//! `make cluster`.
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
//! | [`folder`], [`wait`] | where a server lives; waiting for what happens in another process |

mod error;
pub mod folder;
pub mod port;
pub mod process;
pub mod redis;
pub mod wait;
mod watcher;

pub use error::Error;
