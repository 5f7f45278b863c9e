//! A database of a test's own.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use super::{
    access::{ADMINISTRATOR, Access, MAINTENANCE, OWNER},
    connection::Connection,
};
use crate::Error;

/// Longest wait for the answer to a command; CREATE DATABASE copies files.
const ANSWER: Duration = Duration::from_secs(30);
/// PostgreSQL cuts longer names off, silently.
const LONGEST_NAME: usize = 63;
/// Tells databases of the same name apart.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// To which nobody connects: then any number are created at a time.
pub(super) const EMPTY: &str = "template0";

/// A database of a test, dropped soon after this value, whoever is still connected.
#[derive(Debug)]
pub struct Database {
    access: Access,
    name: String,
}

impl Database {
    pub(super) fn new(access: &Access, word: &str) -> Result<Self, Error> {
        Self::copy(access, EMPTY, word)
    }

    pub(super) fn copy(access: &Access, original: &str, word: &str) -> Result<Self, Error> {
        let name = unique(word, NUMBER.fetch_add(1, Ordering::Relaxed));
        create(access, &name, original)?;
        Ok(Self {
            access: access.clone(),
            name,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For its owner, who is no superuser.
    #[must_use]
    pub fn url(&self) -> String {
        self.access.url(OWNER, &self.name)
    }

    /// Likewise by way of another address, such as that of a [`Link`](crate::link::Link), a pooler or a replica.
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        self.access.url_through(address, OWNER, &self.name)
    }

    /// For the superuser.
    #[must_use]
    pub fn superuser_url(&self) -> String {
        self.access.url(ADMINISTRATOR, &self.name)
    }

    /// A connection of the superuser to it.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn connect(&self) -> Result<Connection, Error> {
        self.access.connect(&self.name, ANSWER)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let command = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&self.name));
        let access = self.access.clone();
        // PostgreSQL waits for all who are just logging in, and one of them may be this thread's own runtime, which does not
        // go on before this ends. Where the server is gone, so is the database.
        let drop = move || {
            let mut connection = access.connect(MAINTENANCE, ANSWER)?;
            connection.query(&command).map(drop)
        };
        thread::Builder::new().spawn(drop).ok();
    }
}

/// Creates one that belongs to [`OWNER`], as a copy of another.
pub(super) fn create(access: &Access, name: &str, original: &str) -> Result<(), Error> {
    if name.len() > LONGEST_NAME {
        return Err(Error::Unfit(format!(
            "a database's name has at most {LONGEST_NAME} bytes: {name}"
        )));
    }
    let mut connection = access.connect(MAINTENANCE, ANSWER)?;
    let command = format!(
        "CREATE DATABASE {} OWNER {OWNER} TEMPLATE {}",
        quoted(name),
        quoted(original)
    );
    connection.query(&command).map(drop)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name that needs no quotes in SQL and no escapes in a URL, such as `test_7_mod_what_it_does`.
fn unique(word: &str, number: u64) -> String {
    let plain = word.chars().map(|letter| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9') => letter,
        _ => '_',
    });
    format!("test_{number}_")
        .chars()
        .chain(plain)
        .take(LONGEST_NAME)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_short_and_unique() {
        assert_eq!(unique("store::It's", 7), "test_7_store__it_s");
        assert_eq!(unique(&"é".repeat(100), 7).len(), LONGEST_NAME);
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
