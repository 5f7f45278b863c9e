//! What can be asked for about the dispatcher.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The parts, by the names of the targets that they are held against.
const PARTS: [&str; 9] = ["d1", "d2", "d4", "d5", "d6", "d8", "d9", "d10", "hot"];

/// Where the dispatcher's data lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A file of the server's own.
    Sqlite,
    /// A PostgreSQL that is started for it, with fsync.
    Postgres,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Dispatch {
    /// d1 accepted one at a time, hot the same to one role, d2 in bulk, d4 from the request to the frame, d5 mails, d6
    /// webhooks, d8 the inbox, d9 events of Kafka, d10 a filled server that has nothing to do. Default: all.
    #[arg(long, value_delimiter = ',', value_parser = PARTS)]
    only: Vec<String>,
    /// On which databases.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["sqlite", "postgres"])]
    pub(crate) stores: Vec<Kind>,
    /// Times that everything is measured; the median counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) runs: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Connections that post one notification after the other.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) connections: u32,
    /// Mails, and webhook calls, that go through.
    #[arg(long, default_value_t = 30_000)]
    pub(crate) deliveries: u64,
    /// Events of d9.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) events: u64,
    /// Rows of all inboxes in d8 and d10.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) rows: u64,
    /// Users whose inboxes these are.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) users: u64,
    /// The executable of Carillon. Default: `carillon` beside this program.
    #[arg(long)]
    pub(crate) server: Option<PathBuf>,
    /// Figures of `cargo bench -p benches --bench dispatch -- --figures FILE`, for the same table.
    #[arg(long)]
    pub(crate) more: Vec<PathBuf>,
    /// Put the table into this document, between its marks.
    #[arg(long)]
    pub(crate) markdown: Option<PathBuf>,
    /// Write the result as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

impl Dispatch {
    /// Whether this part is to be measured.
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }
}

impl Kind {
    /// As people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}
