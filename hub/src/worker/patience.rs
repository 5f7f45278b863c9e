//! Questions to a bus that may be away for a moment.

use std::time::Duration;

use common::{backoff::Backoff, bus::BusError};

/// Tries of a question to a bus that is away.
const TRIES: u32 = 10;

pub(super) const AGAIN: Backoff = Backoff {
    base: Duration::from_millis(50),
    factor: 2.0,
    max: Duration::from_secs(1),
};

/// Asks the bus again while it is away, for some seconds.
pub(super) async fn patiently<T, F: Future<Output = Result<T, BusError>>>(
    ask: impl Fn() -> F,
) -> Result<T, BusError> {
    let mut tries = 0;
    loop {
        match ask().await {
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => {
                tries += 1;
                tokio::time::sleep(AGAIN.delay(tries, fastrand::f64())).await;
            }
            answer => return answer,
        }
    }
}
