//! What the tests share: a server process, HTTP and WebSocket clients, an SMTP server that can be held.

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod server;
pub(crate) mod smtp;
pub(crate) mod socket;

use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;

/// Waits until `probe` gives something, and panics with `what` when it does not in time. The only place where tests
/// sleep: what they wait for happens in another process.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {} s: {what}", within.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A program that the tests need, or the advice how to get it.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps Postfix where an ordinary user's PATH does not look.
    let places =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()]);
    let found = places.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not installed: run `make setup`"))
}
