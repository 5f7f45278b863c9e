//! PostgreSQL as it is in production: alone, with a streaming replica, and behind a pooler.
//!
//! [`shared`] is the server for tests that need no more than databases of their own; who kills, pauses or reconfigures one
//! starts its own by [`Server::start`].

mod access;
mod connection;
mod database;
mod options;
mod program;
mod server;
mod shared;

pub use access::OWNER;
pub(crate) use access::{ADMINISTRATOR, Access};
pub use connection::{Connection, Row};
pub use database::Database;
pub use options::Options;
pub use server::Server;
pub use shared::shared;
