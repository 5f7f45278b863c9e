//! The rig with the real programs.

// clippy's allowances for tests cover functions marked as tests, not what they call.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod carillon;
mod cluster;
mod link;
mod nginx;
mod pgbouncer;
mod postgres;
mod process;
mod sentinel;
mod single;
mod support;
mod whole;
