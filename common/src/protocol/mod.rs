//! What clients and hubs say to each other over a socket (`docs/protocol.md`).

mod client;
mod close;
mod server;

pub use self::{
    client::{Command, CommandError, ReadWhat},
    close::Close,
    server::{Dialect, ServerFrame, frame_parts},
};

/// The sub-protocol in which everything is available.
pub const SUBPROTOCOL: &str = "carillon.v1";

/// Prefix of the sub-protocol that carries a token: `bearer.<jwt>`.
pub const BEARER_PREFIX: &str = "bearer.";

/// Topics of one `resume`, ids of one `ack` or `read`, at the most.
pub const MAX_ITEMS: usize = 1000;
