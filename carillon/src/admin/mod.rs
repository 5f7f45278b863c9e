//! `carillon admin`: what is done on the machine itself, without a token.

mod audit;
mod keys;

use std::io::Write;

use crate::{cli::Admin, config::Config};

/// Does it on the configured database, and prints what it found.
///
/// # Errors
/// What the operator can do something about, in words.
pub(crate) async fn run(admin: Admin, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    match admin {
        Admin::Keys(command) => {
            for line in keys::run(command, config).await? {
                writeln!(out, "{line}")?;
            }
            Ok(())
        }
        Admin::Audit(command) => audit::run(command, config, out).await,
    }
}
