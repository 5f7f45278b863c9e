//! `redis-benchmark` with the script of the bus.

use anyhow::{Context, bail};
use rig::redis::Server;
use sha1::{Digest, Sha1};
use tokio::process::Command;

/// The script that a publish with history is.
const WINDOW: &str = concat!(
    include_str!("../../../common/src/bus/redis/scripts/begin.lua"),
    include_str!("../../../common/src/bus/redis/scripts/window.lua"),
    include_str!("../../../common/src/bus/redis/scripts/publish.lua")
);

/// Calls a second of the script, 50 connections with 16 on the way on each, one topic.
pub(super) async fn calls(server: &Server, count: u64, core: Option<u32>) -> anyhow::Result<f64> {
    server.command(&["SCRIPT", "LOAD", WINDOW])?;
    let digest: String = Sha1::digest(WINDOW.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let envelope = format!(
        "{}\n{:256}",
        r#"{"id":"0199f0c2-7c3e-7000-8000-000000000000","kind":"message","at":1763640000000}"#, "x"
    );
    let port = server.address().port().to_string();
    let count = count.to_string();
    let name = |kind: &str| format!("tool:{{5}}:{kind}:bench:t:n0");
    let mut words: Vec<String> = match core {
        Some(core) => ["taskset", "-c", &core.to_string()].map(str::to_owned).to_vec(),
        None => Vec::new(),
    };
    words.extend(
        [
            "redis-benchmark",
            "-p",
            &port,
            "-P",
            "16",
            "-c",
            "50",
            "-n",
            &count,
            "--csv",
            "EVALSHA",
            &digest,
            "5",
        ]
        .map(str::to_owned),
    );
    words.extend([
        "tool:{5}:epoch".to_owned(),
        name("m"),
        name("h"),
        name("c"),
        name("m"),
        envelope,
        "0199f0c2-7c3e-7000-8000-000000000000".to_owned(),
        "5f3759df".to_owned(),
        "256".to_owned(),
        "262144".to_owned(),
        "600000".to_owned(),
        "2592000000".to_owned(),
        "29394".to_owned(),
        "0".to_owned(),
        "1".to_owned(),
    ]);
    let output = Command::new(&words[0])
        .args(&words[1..])
        .kill_on_drop(true)
        .output()
        .await
        .context("running redis-benchmark")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "redis-benchmark: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    rate(&text).with_context(|| format!("no rate in {text}"))
}

/// The second column of the last line: what stands before it is the command itself, with commas of its own.
fn rate(csv: &str) -> Option<f64> {
    let last = csv.lines().rev().find(|line| line.ends_with('"'))?;
    // "test","rps","avg_latency_ms","min","p50","p95","p99","max": seven columns behind the command.
    let column = last.trim_matches('"').rsplit("\",\"").nth(6)?;
    column.parse().ok()
}

/// What Redis says of itself.
pub(super) async fn version() -> String {
    let output = Command::new("redis-server").arg("--version").output().await;
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_stands_behind_a_command_with_commas() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\"EVALSHA {\"a\",\"b\"} x\",\"105708.25\",\"7.1\",\"0.5\",\"7.0\",\"8.1\",\"9.0\",\"12.0\"\n";
        assert_eq!(rate(csv), Some(105_708.25));
        assert_eq!(rate("ERR"), None);
    }
}
