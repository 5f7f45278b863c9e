//! The document of a pass of `make bench-peers`: results of many runs in, one Markdown file and its data out.

mod chapter;
mod machine;
mod markdown;
mod run;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::{
    machine::Machine,
    run::{Figures, Run, label},
};
use crate::report::Report;

/// Where the chapter begins that `scripts/bench-dispatch.sh` writes.
const DISPATCHER: &str = "\n## Dispatcher\n";

/// `loadtest table`: writes the document of a pass.
#[derive(Debug, Clone, Args)]
pub(crate) struct TableArgs {
    /// The folder with results, called `{round}.{workload}.{server}.json`, and with `pass.json` and `missing.tsv`.
    results: PathBuf,
    /// Where the document goes.
    #[arg(long, default_value = "docs/benchmarks.md")]
    markdown: PathBuf,
    /// Where its data go.
    #[arg(long, default_value = "docs/benchmarks/results.json")]
    data: PathBuf,
}

/// How a pass was run; `pass.json` of its folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// When it began, RFC 3339.
    pub(crate) began: String,
    /// The commit of this repository.
    pub(crate) commit: String,
    pub(crate) sockets: u32,
    /// Seconds of a run.
    pub(crate) seconds: u32,
    /// Seconds of a run with stalled readers.
    pub(crate) slow_seconds: u32,
    /// What the network of the runs was set to, in words.
    pub(crate) network: String,
    /// The command of each workload.
    #[serde(default)]
    pub(crate) commands: BTreeMap<String, String>,
}

/// Everything that the document says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pass {
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    pub(crate) versions: BTreeMap<String, String>,
    /// Servers and runs that could not be had, and why.
    pub(crate) missing: Vec<(String, String)>,
    pub(crate) runs: Vec<Run>,
}

/// Reads the results and writes the document.
///
/// # Errors
/// A file cannot be read or written, or is no result.
pub(crate) fn write(args: &TableArgs) -> anyhow::Result<()> {
    let pass = Pass::read(&args.results)?;
    for path in [&args.markdown, &args.data] {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
    }
    let mut document = markdown::document(&pass);
    // What stands behind it is not of this pass.
    let before = std::fs::read_to_string(&args.markdown).unwrap_or_default();
    if let Some(at) = before.find(DISPATCHER) {
        document.push_str(&before[at..]);
    }
    std::fs::write(&args.markdown, document)
        .with_context(|| format!("writing {}", args.markdown.display()))?;
    let mut data = serde_json::to_string_pretty(&pass)?;
    data.push('\n');
    std::fs::write(&args.data, data).with_context(|| format!("writing {}", args.data.display()))
}

impl Pass {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut pass = Self {
            settings: serde_json::from_str(&text(&folder.join("pass.json"))?)
                .context("pass.json of the results")?,
            machine: Machine::here(),
            ..Self::default()
        };
        let missing = folder.join("missing.tsv");
        if missing.exists() {
            pass.missing = text(&missing)?
                .lines()
                .filter_map(|line| line.split_once('\t'))
                .map(|(name, reason)| (name.to_owned(), reason.to_owned()))
                .collect();
        }
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") && !path.ends_with("pass.json") {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            let (server, workload, round) = label(&path)?;
            let report = Report::read(&path)?;
            pass.runs.push(Run {
                server: server.clone(),
                workload,
                round,
                figures: Figures::of(&report),
            });
            if !report.target_version.is_empty() {
                pass.versions.insert(server, report.target_version);
            }
        }
        if pass.runs.is_empty() {
            bail!("there are no results in {}", folder.display());
        }
        Ok(pass)
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
