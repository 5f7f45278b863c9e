//! `carillon admin`: what is done on the machine itself, without a token.

mod keys;

use crate::{cli::Admin, config::Config};

/// Does it on the configured database, and says what is to be printed.
///
/// # Errors
/// What the operator can do something about, in words.
pub(crate) async fn run(admin: Admin, config: &Config) -> anyhow::Result<Vec<String>> {
    match admin {
        Admin::Keys(command) => keys::run(command, config).await,
    }
}
