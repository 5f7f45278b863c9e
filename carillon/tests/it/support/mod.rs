//! What the tests share: a server process, HTTP and WebSocket clients, an SMTP server that can be held.

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod server;
pub(crate) mod smtp;
pub(crate) mod socket;

use std::path::PathBuf;

pub(crate) use common::patience::eventually;

/// A program that the tests need, or the advice how to get it.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps Postfix where an ordinary user's PATH does not look.
    let places =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()]);
    let found = places.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not installed: run `make setup`"))
}
