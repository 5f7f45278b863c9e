//! Where PostgreSQL's programs are, and running those that end by themselves.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Error, account::Account, process};

/// Overrides the search.
const FOLDER: &str = "PG_BIN";
/// Debian keeps each major version in a folder of its own, off the PATH.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Finds one in `$PG_BIN`, else in the newest version of Debian's, else on the PATH.
///
/// # Errors
/// [`Error::NotInstalled`].
pub(super) fn find(name: &str) -> Result<PathBuf, Error> {
    if let Some(folder) = std::env::var_os(FOLDER).filter(|folder| !folder.is_empty()) {
        let program = Path::new(&folder).join(name);
        let missing = || Error::NotInstalled {
            program: program.display().to_string(),
        };
        return program.is_file().then(|| program.clone()).ok_or_else(missing);
    }
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let numbered =
        versions.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    let programs = numbered.map(|(number, folder): (u32, PathBuf)| (number, folder.join("bin").join(name)));
    let newest = programs.filter(|(_, file)| file.is_file()).max();
    newest.map_or_else(|| process::program(name), |(_, file)| Ok(file))
}

/// Runs one in `home` until it ends.
///
/// # Errors
/// [`Error::Unfit`] with its words where it fails, [`Error::System`] where it does not start.
pub(super) fn run(
    name: &str,
    arguments: &[impl AsRef<OsStr>],
    environment: &[(&str, &str)],
    home: &Path,
    account: Account,
) -> Result<(), Error> {
    let mut command = Command::new(find(name)?);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(home)
        .stdin(Stdio::null());
    account.run(&mut command);
    let output = command
        .output()
        .map_err(Error::system(format!("starting {name}")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::Unfit(format!(
        "{name} ended ({}): {}",
        output.status,
        words.trim()
    )))
}
