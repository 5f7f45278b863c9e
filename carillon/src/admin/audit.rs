//! The audit log, read from the database itself: also by who has no token, and while nothing runs.

use std::io::Write;

use anyhow::Context;
use common::ids::TenantId;
use dispatcher::{
    api::AuditExport,
    model::{AuditFilter, Micros},
};

use crate::{cli::AuditCommand, config::Config, service::Database};

/// Prints it page by page.
///
/// # Errors
/// What the operator can do something about, in words.
pub(super) async fn run(command: AuditCommand, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let AuditCommand::Export {
        tenant,
        action,
        from,
        to,
    } = command;
    let micros = |time: jiff::Timestamp| Micros(time.as_microsecond());
    let filter = AuditFilter {
        tenant: tenant
            .as_deref()
            .map(TenantId::new)
            .transpose()
            .context("--tenant")?,
        action,
        from: from.map(micros),
        to: Some(to.map_or_else(Micros::now, micros)),
        ..AuditFilter::default()
    };
    let database = Database::open(config)
        .await
        .context("where Carillon runs on this file, use its API: /api/v1/audit/export")?;
    let mut export = AuditExport::whole(database.store().clone(), filter);
    while let Some(page) = export.page().await {
        out.write_all(&page?)?;
    }
    database.close().await;
    Ok(())
}
