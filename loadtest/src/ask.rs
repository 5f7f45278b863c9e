//! Single questions to the server by HTTP: readiness, metrics.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Status and body of a GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        // Not every small server closes because it is asked to.
        while !whole(&bytes) && stream.read_buf(&mut bytes).await? > 0 {}
        anyhow::Ok(bytes)
    };
    let bytes = timeout(PATIENCE, exchange).await.context("no answer in time")??;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head
        .get(9..12)
        .unwrap_or_default()
        .parse()
        .context("no HTTP answer")?;
    Ok((status, body.to_owned()))
}

/// Whether an answer that says how long it is has come.
fn whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        head.lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())
            .is_some_and(|len| body.len() >= len)
    })
}

/// Whether somebody listens.
pub(crate) async fn connects(address: SocketAddr) -> bool {
    matches!(timeout(PATIENCE, TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// The counters of Prometheus's text form: name with labels, and value.
pub(crate) fn counters(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, value) = line.trim().rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// The sum of all whose name begins so and that have all of these labels.
pub(crate) fn sum(counters: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    counters
        .iter()
        .filter(|(key, _)| key.starts_with(name) && key.contains(label))
        .map(|(_, value)| value)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_summed() {
        let text = "# TYPE x counter\nx_total{reason=\"slow\"} 3\nx_total{reason=\"other\"} 4\ny 1.5\n";
        let counters = counters(text);
        assert_eq!(sum(&counters, "x_total", "slow"), 3.0);
        assert_eq!(sum(&counters, "x_total", ""), 7.0);
        assert_eq!(sum(&counters, "y", ""), 1.5);
    }
}
