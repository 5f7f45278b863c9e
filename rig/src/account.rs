//! The user as whom those servers run that refuse to be root.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::Path,
    process::Command,
};

use crate::Error;

/// In this order; the first is Debian's for PostgreSQL, the second is everywhere.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// This process's own user, or an unprivileged one where this is root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account(Option<(u32, u32)>);

impl Account {
    /// # Errors
    /// [`Error::Unfit`] where there is none, [`Error::System`] where the list cannot be read.
    pub(crate) fn of_servers() -> Result<Self, Error> {
        if !rustix::process::getuid().is_root() {
            return Ok(Self(None));
        }
        let users = fs::read_to_string("/etc/passwd").map_err(Error::system("reading /etc/passwd"))?;
        let found = NAMES.iter().find_map(|name| numbers(&users, name));
        let none = || {
            Error::Unfit(format!(
                "root runs no database, and there is no user of {NAMES:?}"
            ))
        };
        found.ok_or_else(none).map(|found| Self(Some(found)))
    }

    /// Lets it run a command.
    pub(crate) fn run(self, command: &mut Command) {
        if let Self(Some((user, group))) = self {
            command.uid(user).gid(group);
        }
    }

    /// Gives it a file or folder.
    ///
    /// # Errors
    /// [`Error::System`].
    pub(crate) fn give(self, path: &Path) -> Result<(), Error> {
        let Self(Some((user, group))) = self else {
            return Ok(());
        };
        let given = chown(path, Some(user), Some(group));
        given.map_err(Error::system(format!("giving {} away", path.display())))
    }
}

/// User and group in the lines of passwd(5).
fn numbers(users: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = users
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?
        .skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:,,,:/:/bin/sh\n";
        assert_eq!(numbers(users, "postgres"), Some((101, 104)));
        assert_eq!(numbers(users, "nobody"), None);
        assert_eq!(numbers("nobody:x:none:1::/:", "nobody"), None);
    }
}
