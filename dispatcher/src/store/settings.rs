//! Settings at run time, every version of them.

use common::audit::Origin;

use super::{
    StoreError,
    access::Access,
    audit,
    codec::{from_json, json},
    revisions::revise,
    sql::settings as sql,
    transaction::Tx,
};
use crate::model::{Micros, Revised, SettingChange, SettingVersion};

/// Versions of one setting that are kept.
const KEPT: i64 = 100;

type Row = (String, i64, Option<String>, String, i64);

fn version((key, version, value, changed_by, changed_at): Row) -> Result<SettingVersion, StoreError> {
    Ok(SettingVersion {
        key,
        version,
        value: value.map(|text| from_json("setting", &text)).transpose()?,
        changed_by,
        changed_at: Micros(changed_at),
    })
}

/// The newest version of every setting that was ever changed.
pub(super) async fn all(conn: &mut Access<'_>) -> Result<Vec<SettingVersion>, StoreError> {
    let rows: Vec<Row> = conn.query(sql::SETTINGS).all().await?;
    rows.into_iter().map(version).collect()
}

/// The versions of one, the newest first.
pub(super) async fn versions(conn: &mut Access<'_>, key: &str) -> Result<Vec<SettingVersion>, StoreError> {
    let rows: Vec<Row> = conn
        .query(sql::SETTING_VERSIONS)
        .bind(key)
        .bind(KEPT)
        .all()
        .await?;
    rows.into_iter().map(version).collect()
}

/// What became of a setting that was to be changed.
#[derive(Debug, Clone, PartialEq)]
pub enum SettingWritten {
    /// Its next version.
    Stored(SettingVersion),
    /// The version that was expected is not the newest.
    Stale,
    /// Another setting was changed since the change was judged.
    Moved,
}

/// Writes the next version, where all settings still are what it was judged beside.
pub(super) async fn change(
    tx: &mut Tx<'_>,
    change: &SettingChange,
    beside: &[SettingVersion],
    by: &Origin,
) -> Result<SettingWritten, StoreError> {
    // First, so that of two changes one waits here and sees what the other did.
    revise(tx, Revised::Settings).await?;
    let all = all(&mut tx.conn).await?;
    let last = all.iter().find(|one| one.key == change.key).cloned();
    let newest = last.as_ref().map_or(0, |last| last.version);
    if change.expected.is_some_and(|expected| expected != newest) {
        return Ok(SettingWritten::Stale);
    }
    if all != beside {
        return Ok(SettingWritten::Moved);
    }
    let new = SettingVersion {
        key: change.key.clone(),
        version: newest + 1,
        value: change.value.clone(),
        changed_by: by.credential_id.clone(),
        changed_at: tx.now,
    };
    tx.conn
        .query(sql::PUT_SETTING)
        .bind(new.key.as_str())
        .bind(new.version)
        .bind(new.value.as_ref().map(json).transpose()?)
        .bind(new.changed_by.as_str())
        .bind(new.changed_at.0)
        .run()
        .await?;
    tx.conn
        .query(sql::FORGET_SETTINGS)
        .bind(new.key.as_str())
        .bind(new.version - KEPT)
        .run()
        .await?;
    let action = if new.value.is_some() {
        "setting.put"
    } else {
        "setting.delete"
    };
    let before = last.and_then(|last| last.value);
    let entry = by.did(action, "setting", &new.key).of(None);
    audit::append(tx, &[entry.plain(before, new.value.clone())]).await?;
    Ok(SettingWritten::Stored(new))
}
