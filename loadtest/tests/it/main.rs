//! The programs of this crate, run as a whole. One binary: linked once, run in parallel.

// clippy's allowances for tests cover functions marked as tests, not what they call.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

mod cluster;
mod floor;
mod harness;
