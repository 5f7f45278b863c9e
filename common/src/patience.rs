//! How tests wait: for what happens, and no longer than it may take. The only place where they let time pass.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks again until there is an answer.
///
/// # Panics
/// When there is none in time.
pub async fn eventually<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(PAUSE).await;
        }
    };
    soon(what, within, asking).await
}

/// The work's result.
///
/// # Panics
/// When it takes longer.
pub async fn soon<T>(what: &str, within: Duration, work: impl Future<Output = T>) -> T {
    timeout(within, work)
        .await
        .unwrap_or_else(|_| panic!("did not happen within {within:?}: {what}"))
}
