//! Kernel settings for the time of a run.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// Settings that were changed, with what they were before. They are set back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Sysctls(Vec<(PathBuf, String)>);

impl Sysctls {
    /// Sets them.
    ///
    /// # Errors
    /// A name that is none, or no right to change it; what was changed before is set back.
    pub(crate) fn set(pairs: &[(String, String)]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for (key, value) in pairs {
            let path = path(key)?;
            let before = std::fs::read_to_string(&path).with_context(|| format!("reading {key}"))?;
            std::fs::write(&path, value).with_context(|| format!("setting {key} (are you root?)"))?;
            all.0.push((path, before.trim().to_owned()));
        }
        Ok(all)
    }

    /// Sets them back.
    pub(crate) fn restore(&mut self) -> anyhow::Result<()> {
        for (path, before) in std::mem::take(&mut self.0) {
            std::fs::write(&path, before).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

impl Drop for Sysctls {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            eprintln!("loadtest: a kernel setting could not be set back: {error:#}");
        }
    }
}

fn path(key: &str) -> anyhow::Result<PathBuf> {
    let plain = key
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_' || c == '-');
    if !plain || !key.starts_with("net.") {
        bail!("`{key}` is not the name of a network setting, such as net.ipv4.tcp_congestion_control");
    }
    Ok(PathBuf::from("/proc/sys").join(key.replace('.', "/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_network_settings() {
        assert_eq!(
            path("net.ipv4.tcp_wmem").unwrap(),
            PathBuf::from("/proc/sys/net/ipv4/tcp_wmem")
        );
        for bad in ["kernel.panic", "net/../kernel/panic", "net.ipv4/tcp"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
