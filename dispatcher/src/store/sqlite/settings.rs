//! Settings at run time.

/// The newest version of every setting.
pub(in crate::store) const SETTINGS: &str = "
SELECT s.key, s.version, s.value, s.changed_by, s.changed_at FROM settings s
WHERE s.version = (SELECT max(version) FROM settings n WHERE n.key = s.key) ORDER BY s.key";

/// `?1` the key, `?2` so many, the newest first.
pub(in crate::store) const SETTING_VERSIONS: &str = "
SELECT key, version, value, changed_by, changed_at FROM settings WHERE key = ?1 ORDER BY version DESC LIMIT ?2";

pub(in crate::store) const PUT_SETTING: &str = "
INSERT INTO settings (key, version, value, changed_by, changed_at) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Versions of `?1` up to `?2`.
pub(in crate::store) const FORGET_SETTINGS: &str = "DELETE FROM settings WHERE key = ?1 AND version <= ?2";
