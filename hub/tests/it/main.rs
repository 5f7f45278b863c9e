//! A hub on an in-process bus, reached over real sockets. One binary: linked once, run in parallel.

// clippy's allowances for tests cover functions marked as tests, not what they call.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

mod support;

mod audience;
mod commands;
mod compression;
mod control;
mod dialects;
mod document;
mod drain;
mod fanout;
mod front;
mod handshake;
mod heartbeat;
mod isolation;
mod keys;
mod last_value;
mod limits;
mod malformed;
mod nodes;
mod order;
mod overflow;
mod pipelining;
mod policies;
mod poll;
mod presence;
mod publish;
mod receipts;
mod redis;
mod resume;
mod slow;
mod sse;
mod storm;
mod stream;
mod trace;
mod unread;
mod wire;
