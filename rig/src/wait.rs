//! Waiting for what happens in another process.

use std::time::{Duration, Instant};

use crate::Error;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `probe` gives a value.
///
/// # Errors
/// [`Error::Late`] with the last refusal when `within` has passed; [`Error::Ended`] at once, as what has ended brings
/// nothing about any more.
pub fn until<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let end = Instant::now() + within;
    loop {
        let refusal = match probe() {
            Ok(value) => return Ok(value),
            Err(ended @ Error::Ended { .. }) => return Err(ended),
            Err(refusal) => refusal,
        };
        if Instant::now() >= end {
            return Err(Error::Late {
                what: what.to_owned(),
                within,
                last: Some(Box::new(refusal)),
            });
        }
        pause(PAUSE);
    }
}

/// A refusal of a probe: not yet.
///
/// # Errors
/// [`Error::Unfit`] unless `fits`.
pub fn ensure(fits: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if fits { Ok(()) } else { Err(Error::Unfit(what())) }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the other process tells nobody; no worker of a server runs this code"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
