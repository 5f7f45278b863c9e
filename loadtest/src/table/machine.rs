//! What the figures were measured on.

use std::fs;

use serde::{Deserialize, Serialize};

/// A machine, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gb: u64,
    pub(crate) system: String,
    pub(crate) kernel: String,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        Self {
            processor: value(&processors, "model name", ':').unwrap_or_else(|| "unknown".to_owned()),
            cores: processors
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            memory_gb: value(&read("/proc/meminfo"), "MemTotal", ':')
                .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kb| (kb + (1 << 19)) >> 20),
            system: value(&read("/etc/os-release"), "PRETTY_NAME", '=')
                .unwrap_or_else(|| "unknown".to_owned()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// What stands behind a key on the first line that begins with it.
fn value(text: &str, key: &str, separator: char) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    let (_, value) = line.split_once(separator)?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_a_core() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && !machine.kernel.is_empty(), "{machine:?}");
        assert_eq!(value("A=1\nNAME=\"x y\"\n", "NAME", '='), Some("x y".to_owned()));
    }
}
