//! What this machine does without a dispatcher.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use sqlx::{ConnectOptions, Connection as _, sqlite::SqliteConnectOptions};
use tokio::{process::Command, time::Instant};

use super::site;

/// A row that says about as much as a notification: id, whose, JSON of 150 bytes, time; two indexes.
const TABLE: [&str; 2] = [
    "CREATE TABLE bare (id {uuid} PRIMARY KEY, tenant TEXT NOT NULL, target TEXT NOT NULL, data TEXT NOT NULL, at BIGINT NOT NULL)",
    "CREATE INDEX bare_target ON bare (tenant, target, id)",
];

/// pgbench's script of the same row. The ids rise, as ours do.
const SCRIPT: &str = "\\set user random(1, 10000)\n\
    INSERT INTO bare VALUES (encode(int8send((extract(epoch FROM clock_timestamp()) * 1000000)::bigint) || \
    int8send((random() * 9e18)::bigint), 'hex')::uuid, 'bench', 'u' || :user, repeat('x', 150), 1);\n";

/// Rows a second that so many clients commit, one each.
pub(super) async fn pgbench(clients: u32, seconds: u64) -> anyhow::Result<f64> {
    let server = site::server()?;
    let url = server.create_database("floor")?;
    let mut connection = server.connect("floor")?;
    for statement in TABLE {
        connection.query(&statement.replace("{uuid}", "uuid"))?;
    }
    connection.query("ALTER TABLE bare OWNER TO carillon")?;
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(script.path(), SCRIPT)?;
    let output = Command::new(program("pgbench")?)
        .args(["-n", "-M", "prepared", "-j", "1", "-c", &clients.to_string()])
        .args(["-T", &seconds.to_string(), "-f"])
        .arg(script.path())
        .arg(&url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("running pgbench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    tps(&text).with_context(|| format!("no rate in {text}"))
}

/// `tps = 17600.123 (without initial connection time)`.
fn tps(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split(' ').next()?.parse().ok()
}

/// Rows a second that one writer commits, one each, as durably as Carillon does.
pub(super) async fn sqlite(time: Duration) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let mut connection = SqliteConnectOptions::new()
        .filename(folder.path().join("bare.db"))
        .create_if_missing(true)
        .pragma("journal_mode", "WAL")
        .pragma("synchronous", "FULL")
        .connect()
        .await?;
    for statement in TABLE {
        let statement = statement.replace("{uuid}", "BLOB");
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
    }
    let data = "x".repeat(150);
    let began = Instant::now();
    let mut count = 0_i64;
    while began.elapsed() < time {
        count += 1;
        let mut id = count.to_be_bytes().to_vec();
        id.extend(fastrand::u64(..).to_be_bytes());
        sqlx::query("INSERT INTO bare VALUES (?1, 'bench', ?2, ?3, ?4)")
            .bind(id)
            .bind(format!("u{}", count % 10_000))
            .bind(&data)
            .bind(count)
            .execute(&mut connection)
            .await?;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(rate)
}

/// Mails a second that postfix's own client sends to `port`, over so many connections.
pub(super) async fn smtp_source(port: u16, connections: u64, mails: u64) -> anyhow::Result<f64> {
    let began = Instant::now();
    let output = Command::new(program("smtp-source")?)
        .args(["-s", &connections.to_string(), "-m", &mails.to_string()])
        // About as long as a mail of ours, and as ours over connections that are kept.
        .args(["-d", "-l", "1200", "-f", "a@example.com", "-t", "b@example.com"])
        .arg(format!("127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("running smtp-source")?;
    if !output.status.success() {
        bail!("smtp-source: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(mails as f64 / began.elapsed().as_secs_f64())
}

/// Debian keeps some of them off the PATH.
pub(super) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let places = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"];
    let mut files = places.iter().map(|folder| PathBuf::from(folder).join(name));
    files
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is not installed: run scripts/setup.sh"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbench_says_how_many() {
        let text = "latency average = 3.6 ms\ntps = 17600.123456 (without initial connection time)\n";
        assert_eq!(tps(text), Some(17_600.123_456));
        assert_eq!(tps("tps"), None);
    }
}
