//! What a PostgreSQL server is started with.

use std::fmt::Write as _;

/// Settings of one server. Without any it is as safe as in production: what it has confirmed is on the disk.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether it waits for the disk. Without it a commit is faster, and as safe from kill -9: only a crash of the whole
    /// machine loses something then.
    pub fsync: bool,
    /// The port, where it matters.
    pub port: Option<u16>,
    /// More settings, with values as the command SET takes them without quotes: `("max_connections", "20")`.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fsync: true,
            port: None,
            settings: Vec::new(),
        }
    }
}

impl Options {
    /// For tests in which no disk fails.
    #[must_use]
    pub fn fast() -> Self {
        Self {
            fsync: false,
            ..Self::default()
        }
    }

    /// With one more setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The whole postgresql.conf. The port is a flag, as a replica gets a copy of this file.
    pub(super) fn file(&self) -> String {
        let mut file = String::from(
            "listen_addresses = '127.0.0.1'\n\
             unix_socket_directories = ''\n\
             # In the data folder, and deleted with it, whatever becomes of the server.\n\
             dynamic_shared_memory_type = mmap\n\
             timezone = 'UTC'\n\
             log_timezone = 'UTC'\n\
             lc_messages = 'C'\n\
             log_line_prefix = '%m [%p] %q%a '\n\
             # As large as a replica may fall behind before it has to be made anew.\n\
             max_slot_wal_keep_size = '1GB'\n",
        );
        let mut set = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            writeln!(file, "{name} = '{}'", value.replace('\'', "''")).ok();
        };
        if !self.fsync {
            set("fsync", "off");
            set("full_page_writes", "off");
        }
        for (name, value) in &self.settings {
            set(name, value);
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_settings_come_last_and_quoted() {
        let file = Options::fast().setting("search_path", "it's").file();
        assert!(
            file.ends_with("fsync = 'off'\nfull_page_writes = 'off'\nsearch_path = 'it''s'\n"),
            "{file}"
        );
        assert!(!Options::default().file().contains("fsync"));
    }
}
