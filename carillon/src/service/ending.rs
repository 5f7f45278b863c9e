//! The end of a process: a signal, and a deadline that all parts share.

use std::time::Duration;

use common::{config::ServerConfig, shutdown};
use tokio::time::Instant;

/// Kept for the last words.
const LAST: Duration = Duration::from_millis(500);

/// Requests that began before the end have so long at the most.
const REQUESTS: Duration = Duration::from_secs(5);

/// An end that has begun.
#[derive(Debug)]
pub(super) struct Ending {
    signal: &'static str,
    deadline: Instant,
}

impl Ending {
    /// Waits for the signal. It is caught from the call on, so that one that comes while the process is being made ends it in
    /// order, too.
    ///
    /// # Errors
    /// When signals cannot be waited for.
    pub(super) fn begun(config: &ServerConfig) -> anyhow::Result<impl Future<Output = Self> + use<>> {
        let (signal, within) = (shutdown::signal()?, config.shutdown_deadline.0);
        Ok(async move {
            let signal = signal.await;
            tracing::info!(signal, "stopping");
            Self {
                signal,
                deadline: Instant::now() + within,
            }
        })
    }

    /// Who presses Ctrl-C looks at the screen; a balancer that sends SIGTERM has to see `/ready` turn red first, and its clients are
    /// to come back spread over time.
    pub(super) fn has_balancer(&self) -> bool {
        self.signal == "SIGTERM"
    }

    /// What is left of the time when so much is kept for what comes after.
    pub(super) fn left(&self, reserve: Duration) -> Duration {
        self.deadline
            .saturating_duration_since(Instant::now())
            .saturating_sub(reserve)
    }

    /// The time for requests that began before the end.
    pub(super) fn for_requests(&self) -> Duration {
        self.left(LAST).min(REQUESTS)
    }
}
