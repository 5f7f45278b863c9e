//! One process a database: a second one would take back what the first is sending.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, bail};
use dispatcher::store::Place;

/// Holds the database for this process; given back when it is dropped, and by the system when the process dies.
#[derive(Debug)]
pub(crate) struct DatabaseLock {
    _file: File,
}

impl DatabaseLock {
    /// Takes the lock of a database that is one process's alone.
    ///
    /// # Errors
    /// As [`DatabaseLock::take`].
    pub(crate) fn of(place: &Place) -> anyhow::Result<Option<Self>> {
        match place {
            Place::File(path) => Ok(Some(Self::take(path)?)),
            Place::Server(_) => Ok(None),
        }
    }

    /// Takes the lock beside the database, without waiting.
    ///
    /// # Errors
    /// When another process has it, or the file cannot be made.
    fn take(database: &Path) -> anyhow::Result<Self> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        // SQLite gives its other files the mode of the database: what people were told is its owner's to read.
        let private = |path: &Path| {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
        };
        private(database).with_context(|| format!("the database {}", database.display()))?;
        let file =
            private(path.as_ref()).with_context(|| format!("the lock {}", Path::new(&path).display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another carillon uses the database {}; stop it first",
                    database.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("the lock {}", Path::new(&path).display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("carillon.db");
        let first = DatabaseLock::take(&database).unwrap();
        let refused = DatabaseLock::take(&database).unwrap_err().to_string();
        assert!(refused.contains("another carillon"), "{refused}");
        let mode = std::fs::metadata(&database).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        drop(first);
        DatabaseLock::take(&database).unwrap();
    }
}
