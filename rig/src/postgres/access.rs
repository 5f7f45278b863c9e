//! How one gets in.

use std::{net::SocketAddr, time::Duration};

use super::connection::Connection;
use crate::Error;

/// The role that owns the databases, and may do there what it likes and nothing else: the one that Carillon is to have.
pub const OWNER: &str = "carillon";
/// The superuser.
pub(crate) const ADMINISTRATOR: &str = "rig";
/// The database which is always there.
pub(super) const MAINTENANCE: &str = "postgres";

/// Address and password of a server. Both roles have the same password, made for this server alone: a superuser starts
/// programs, so nobody else on this machine gets in.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) address: SocketAddr,
    pub(crate) password: String,
}

impl Access {
    /// For clients: `postgres://role:password@127.0.0.1:5432/database`.
    pub(crate) fn url(&self, role: &str, database: &str) -> String {
        self.url_through(self.address, role, database)
    }

    /// Likewise by way of another address.
    pub(crate) fn url_through(&self, address: SocketAddr, role: &str, database: &str) -> String {
        format!("postgres://{role}:{}@{address}/{database}", self.password)
    }

    /// A connection of the superuser.
    pub(crate) fn connect(&self, database: &str, within: Duration) -> Result<Connection, Error> {
        Connection::open(self.address, ADMINISTRATOR, &self.password, database, within)
    }
}
