//! What needs real Redis servers: the bus, the stream of receipts, the board of API keys.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

mod access;
mod board;
mod bus;
mod faults;
mod receipts;
mod support;
