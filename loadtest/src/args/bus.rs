//! What can be asked about the bus over Redis.

use std::path::PathBuf;

use clap::Args;

/// The parts, by the names of the targets that they are held against.
const PARTS: [&str; 7] = ["c1", "c2", "c3", "c4", "c5", "c6", "c7"];

#[derive(Debug, Clone, Args)]
pub(crate) struct Bus {
    /// c1 publishes a second beside redis-benchmark, c2 lag, c3 a node that is not concerned, c4 a primary killed, c5 a
    /// silent connection, c6 a hundred thousand topics subscribed again, c7 Redis CPU with two servers. Default: all.
    #[arg(long, value_delimiter = ',', value_parser = PARTS)]
    only: Vec<String>,
    /// Times that everything is measured; the median counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) runs: u32,
    /// Seconds of each measurement of c1, c2, c7.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Seconds of c3, without and with.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) bystander_seconds: u64,
    /// Pin Redis servers of c1 and c7 to this core.
    #[arg(long)]
    pub(crate) server_core: Option<u32>,
    /// Pin this process and redis-benchmark to this core.
    #[arg(long)]
    pub(crate) client_core: Option<u32>,
    /// The executable of Carillon, for c3. Default: `carillon` beside this program.
    #[arg(long)]
    pub(crate) server: Option<PathBuf>,
    /// Put the table into this document, between its marks.
    #[arg(long)]
    pub(crate) markdown: Option<PathBuf>,
    /// Write the result as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

impl Bus {
    /// Whether this part is to be measured.
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }
}
