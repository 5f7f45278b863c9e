//! Where servers keep their configuration, data and logs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    Error,
    watcher::{self, Watched},
};

/// With any value but an empty one, folders stay for a look at their logs.
const KEEP: &str = "CARILLON_RIG_KEEP";
/// A file system in memory, on most machines.
const MEMORY: &str = "/dev/shm";
/// Least room there, in bytes: containers have 64 MiB unless they are given more.
const ROOM: u64 = 4 << 30;

/// A folder for temporary files, deleted with this value, or at the latest after this process.
#[derive(Debug)]
pub struct Folder {
    kept: TempDir,
    /// Behind it, so that there is no moment in which nobody would delete it.
    _watched: Option<Watched>,
}

impl Folder {
    /// A new one, readable by this user only. `CARILLON_RIG_KEEP=1` in the environment keeps it for ever.
    ///
    /// # Errors
    /// [`Error::System`] where it cannot be made.
    pub fn new(name: &str) -> Result<Self, Error> {
        Self::within(&std::env::temp_dir(), name)
    }

    /// One in memory where there is room for it, else as [`Self::new`]: for data that need not outlast the machine's next
    /// start. A thousand small files, as a database is, are made there in a tenth of the time.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn in_memory(name: &str) -> Result<Self, Error> {
        let memory = Path::new(MEMORY);
        let room = rustix::fs::statvfs(memory).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        if room >= ROOM
            && let Ok(folder) = Self::within(memory, name)
        {
            return Ok(folder);
        }
        Self::new(name)
    }

    fn within(parent: &Path, name: &str) -> Result<Self, Error> {
        let prefix = format!("{}{name}-", watcher::FOLDER_PREFIX);
        let mut kept = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(parent)
            .map_err(Error::system("making a temporary folder"))?;
        let keep = std::env::var_os(KEEP).is_some_and(|value| !value.is_empty());
        kept.disable_cleanup(keep);
        Ok(Self {
            _watched: if keep { None } else { Watched::folder(kept.path()) },
            kept,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.kept.path()
    }

    /// A new folder in it.
    ///
    /// # Errors
    /// [`Error::System`] where it cannot be made.
    pub fn inner(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path().join(name);
        fs::create_dir(&path).map_err(Error::system(format!("making {}", path.display())))?;
        Ok(path)
    }
}
