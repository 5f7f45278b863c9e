//! One binary for all integration tests: linked once, run in parallel.

mod support;

mod email;
mod queue;
mod realtime;
