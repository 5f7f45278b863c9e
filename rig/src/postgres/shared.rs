//! One server for all tests of a program.

use std::sync::{Mutex, PoisonError};

use super::{options::Options, server::Server};
use crate::Error;

/// Enough for the pools of tests that run beside each other.
const CONNECTIONS: &str = "400";

static SHARED: Mutex<Option<&'static Server>> = Mutex::new(None);

/// The server that all of this process share, started at the first call. It does not wait for the disk. Nobody stops,
/// pauses or reconfigures it; it ends after this process, whatever that dies of.
///
/// # Errors
/// As [`Server::start`]; the next call tries again.
pub fn shared() -> Result<&'static Server, Error> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = *shared {
        return Ok(server);
    }
    let options = Options::fast().setting("max_connections", CONNECTIONS);
    let server = Box::leak(Box::new(Server::start(&options)?));
    *shared = Some(server);
    Ok(server)
}
