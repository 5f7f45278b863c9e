//! The whole executable, from outside: processes, sockets, HTTP, SMTP.

// clippy's allowances for tests cover functions marked as tests, not what they call.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says what it saw"
)]

mod support;

mod bad_input;
mod bus_away;
mod cluster;
mod compose;
mod crash;
#[allow(
    clippy::disallowed_methods,
    reason = "servers start and die by blocking calls, and these tests run on several threads"
)]
mod crash_cluster;
mod database_away;
mod files;
mod flush;
mod forged;
#[allow(
    clippy::disallowed_methods,
    reason = "servers start and die by blocking calls, and these tests run on several threads"
)]
mod grpc;
#[allow(
    clippy::disallowed_methods,
    reason = "servers start and die by blocking calls, and these tests run on several threads"
)]
mod kafka_soak;
mod keys;
mod malformed;
mod nodes;
mod receipts;
mod restart;
