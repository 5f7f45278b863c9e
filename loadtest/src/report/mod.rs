//! What a run found: as text, JSON, and a page with charts.

mod chart;
mod compare;
mod html;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

pub(crate) use self::{compare::compare, text::known};
use crate::times::Latency;

/// Everything that a run found. Figures of the server are missing where its process is not known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What it is called in comparisons.
    pub(crate) name: String,
    pub(crate) scenario: String,
    pub(crate) target: String,
    pub(crate) target_version: String,
    /// The command line.
    pub(crate) command: String,
    /// Seconds since 1970.
    pub(crate) began: u64,
    pub(crate) machine: BTreeMap<String, String>,
    /// By the names that `text.rs` explains.
    pub(crate) figures: BTreeMap<String, f64>,
    pub(crate) latencies: BTreeMap<String, Latency>,
    /// What went wrong, was refused, was closed: by kind, then by reason.
    pub(crate) counts: BTreeMap<String, BTreeMap<String, u64>>,
    pub(crate) checks: Vec<Check>,
    /// Seconds since the beginning, and the value.
    pub(crate) series: BTreeMap<String, Vec<(f64, f64)>>,
    /// What happened meanwhile.
    #[serde(default)]
    pub(crate) marks: Vec<Mark>,
}

/// Something that happened in a run, in seconds since its beginning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) name: String,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// Something that has to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) ok: bool,
    /// What was found.
    pub(crate) detail: String,
}

impl Report {
    pub(crate) fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }

    pub(crate) fn check(&mut self, name: &str, ok: bool, detail: impl Into<String>) {
        self.checks.push(Check {
            name: name.to_owned(),
            ok,
            detail: detail.into(),
        });
    }

    pub(crate) fn count<N: Into<u64> + Copy>(&mut self, kind: &str, counts: &BTreeMap<String, N>) {
        for (reason, count) in counts {
            let kind = self.counts.entry(kind.to_owned()).or_default();
            *kind.entry(reason.clone()).or_default() += (*count).into();
        }
    }

    pub(crate) fn latency(&mut self, name: &str, latency: Option<Latency>) {
        if let Some(latency) = latency {
            self.latencies.insert(name.to_owned(), latency);
        }
    }

    /// Whether everything was as it has to be.
    pub(crate) fn good(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// As a page.
    pub(crate) fn html(&self) -> String {
        html::page(std::slice::from_ref(self))
    }

    /// Reads a result.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is no result of this program", path.display()))
    }

    /// Writes a result.
    pub(crate) fn write(&self, json: Option<&Path>, page: Option<&Path>) -> anyhow::Result<()> {
        if let Some(path) = json {
            let text = serde_json::to_vec_pretty(self)?;
            std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        if let Some(path) = page {
            std::fs::write(path, self.html()).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

/// All names in some maps, in order.
fn names<'a, V: 'a>(maps: impl Iterator<Item = &'a BTreeMap<String, V>>) -> BTreeSet<&'a str> {
    maps.flat_map(|map| map.keys().map(String::as_str)).collect()
}
