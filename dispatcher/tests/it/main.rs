//! One binary for all integration tests: linked once, run in parallel.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

mod support;

mod api;
mod grpc;
mod seeds;

mod email;
mod ingest;
mod outage;
mod queue;
mod realtime;
mod receipts;
mod scheduler;
mod spool;
mod store;
mod strategy;
mod webhook;
