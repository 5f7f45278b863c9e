//! Logs and metrics.

mod logs;
mod metrics;

pub use self::{
    logs::{LogError, init, set_level},
    metrics::Metrics,
};
