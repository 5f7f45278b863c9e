//! Who takes what goes out: a webhook receiver of our own, and postfix's `smtp-sink`.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::floor::program;

/// Longest wait for `smtp-sink`.
const START: Duration = Duration::from_secs(10);

/// Answers every signed POST with 204. Runs in a thread of its own until the process ends.
#[derive(Debug, Clone)]
pub(super) struct Hooks {
    pub(super) address: SocketAddr,
    taken: Arc<AtomicU64>,
}

impl Hooks {
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let taken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&taken);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("hooks".to_owned())
            .spawn(move || {
                let ended: std::io::Result<()> = runtime.block_on(async move {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    loop {
                        let (stream, _) = listener.accept().await?;
                        let count = Arc::clone(&count);
                        // A connection that breaks concerns its own end.
                        tokio::spawn(async move { serve(stream, &count).await.ok() });
                    }
                });
                if let Err(error) = ended {
                    eprintln!("the receiver of webhooks ended: {error}");
                }
            })?;
        Ok(Self { address, taken })
    }

    /// Calls that were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, taken: &AtomicU64) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let whole = loop {
            if let Some(whole) = request(&buffer) {
                break whole;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let signed = memmem::find(&buffer[..whole], b"webhook-signature: v1,").is_some();
        buffer.drain(..whole);
        let status = if signed { "204 No Content" } else { "403 Forbidden" };
        taken.fetch_add(u64::from(signed), Ordering::Relaxed);
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Bytes of the first request, once it is whole.
fn request(buffer: &[u8]) -> Option<usize> {
    let head = memmem::find(buffer, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let length = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then_some(value.trim())
    });
    let whole = head + length.map_or(Some(0), |length| length.parse().ok())?;
    (buffer.len() >= whole).then_some(whole)
}

/// `smtp-sink` on a port of its own; mails are taken and thrown away.
pub(super) async fn mails() -> anyhow::Result<(u16, Child)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut command = Command::new(program("smtp-sink")?);
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?) == 0 {
        // It insists on giving up root's rights.
        command.args(["-u", "nobody"]);
    }
    let child = command
        .args([&format!("127.0.0.1:{port}"), "1024"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("starting smtp-sink")?;
    let end = Instant::now() + START;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        if Instant::now() > end {
            bail!("smtp-sink does not listen within {START:?}");
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok((port, child))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_with_its_body() {
        let text = b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcPOST";
        assert_eq!(request(text), Some(text.len() - 4));
        assert_eq!(request(&text[..text.len() - 5]), None);
        assert_eq!(request(b"POST / HTTP/1.1\r\n"), None);
    }
}
