//! One binary for all integration tests: linked once, run in parallel.

mod support;

mod api;
mod seeds;

mod email;
mod queue;
mod realtime;
mod store;
