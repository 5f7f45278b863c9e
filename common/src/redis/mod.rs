//! Redis: where it is, and the client for everything on it that is not the bus.
//!
//! The bus has connections of its own ([`crate::bus`]), because what it promises depends on which connection a command
//! went over; all else goes through [`client`].

mod client;
mod config;
mod endpoint;

pub use self::{
    client::{ClientError, client, keep_connected, tls},
    config::{RedisConfig, RedisKind},
    endpoint::{Endpoint, InvalidEndpoint},
};
