//! A receiver of webhooks: a test says what it answers, and gets what it received. It checks signatures by itself.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use common::config::Span;
use dispatcher::config::DispatcherConfig;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

use super::{quick, smtp::Identity, soon};

/// The secret that [`configure`] sets, and the key that it stands for.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Method, path and version.
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The number of its connection, from 0.
    pub(crate) connection: usize,
}

/// What the receiver does about it.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// This status, and an empty body.
    Status(u16),
    /// This answer, byte by byte; the connection stays open.
    Raw(String),
    /// This answer, and then bytes without an end.
    Endless(String),
    /// Nothing, while the connection stays open.
    Hang,
    /// Closes the connection.
    Cut,
}

/// The receiver; it ends when this is dropped.
pub(crate) struct HookServer {
    pub(crate) address: SocketAddr,
    calls: mpsc::Receiver<Call>,
    identity: Option<Identity>,
    task: JoinHandle<()>,
}

impl Drop for HookServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Settings with which webhooks go to this machine and are signed.
pub(crate) fn configure() -> DispatcherConfig {
    let mut config = quick();
    config.webhook.secrets = vec![SECRET.into()];
    config.webhook.allow_private = vec!["127.0.0.0/8".parse().unwrap()];
    config.webhook.ports = Vec::new();
    config.webhook.allow_http = true;
    config.validate().unwrap();
    config
}

/// The same, and hanging receivers cost little.
pub(crate) fn impatient() -> DispatcherConfig {
    let mut config = configure();
    config.webhook.timeout = Span(std::time::Duration::from_millis(400));
    config.webhook.connect_timeout = Span(std::time::Duration::from_millis(300));
    config
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether one of the signatures is that of the secret (Standard Webhooks, symmetric).
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let key = BASE64_STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap())
            .unwrap();
        let (id, timestamp) = (
            self.header("webhook-id").unwrap(),
            self.header("webhook-timestamp").unwrap(),
        );
        let mut message = format!("{id}.{timestamp}.").into_bytes();
        message.extend_from_slice(&self.body);
        let expected = format!("v1,{}", BASE64_STANDARD.encode(hmac(&key, &message)));
        self.header("webhook-signature")
            .unwrap()
            .split(' ')
            .any(|one| one == expected)
    }
}

/// HMAC-SHA256 as RFC 2104 writes it down.
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    assert!(key.len() <= 64, "longer keys are not used here");
    let pad = |with: u8| -> [u8; 64] { std::array::from_fn(|at| key.get(at).unwrap_or(&0) ^ with) };
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

impl HookServer {
    /// Takes everything.
    pub(crate) async fn friendly() -> Self {
        Self::start(|_| Reply::Status(200)).await
    }

    pub(crate) async fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, script).await
    }

    /// Behind TLS, with a certificate for `localhost`.
    pub(crate) async fn start_tls(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(Some(Identity::make()), script).await
    }

    async fn serve(
        identity: Option<Identity>,
        script: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, calls) = mpsc::channel(4096);
        let (script, tls, count) = (Arc::new(script), identity.clone(), AtomicUsize::new(0));
        let task = tokio::spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (script, sender, tls) = (Arc::clone(&script), sender.clone(), tls.clone());
                sessions.spawn(async move {
                    // Clients may go away; tests look at what came.
                    let ended = match tls {
                        None => session(stream, number, &*script, &sender).await,
                        Some(tls) => match tls.acceptor.accept(stream).await {
                            Ok(stream) => session(stream, number, &*script, &sender).await,
                            Err(error) => Err(error),
                        },
                    };
                    drop(ended);
                });
            }
        });
        Self {
            address,
            calls,
            identity,
            task,
        }
    }

    /// A URL of this receiver by its address.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Settings that believe this receiver's certificate.
    pub(crate) fn believed(&self, mut config: DispatcherConfig) -> DispatcherConfig {
        let identity = self.identity.as_ref().expect("a receiver behind TLS");
        config.webhook.ca_file = Some(identity.file.path().to_owned());
        config
    }

    /// The next call.
    pub(crate) async fn call(&mut self) -> Call {
        soon("a call", self.calls.recv())
            .await
            .expect("the receiver runs")
    }

    /// Calls that came and were not asked for.
    pub(crate) fn further_calls(&mut self) -> usize {
        std::iter::from_fn(|| self.calls.try_recv().ok()).count()
    }
}

async fn session<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    connection: usize,
    script: &(dyn Fn(&Call) -> Reply + Send + Sync),
    calls: &mpsc::Sender<Call>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(call) = receive(&mut stream, connection).await? {
        let reply = script(&call);
        // The test may have ended.
        drop(calls.send(call).await);
        match reply {
            Reply::Status(status) => {
                let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(text.as_bytes()).await?;
            }
            Reply::Raw(text) => stream.write_all(text.as_bytes()).await?,
            Reply::Endless(text) => {
                stream.write_all(text.as_bytes()).await?;
                loop {
                    stream.write_all(&[b'x'; 4096]).await?;
                }
            }
            Reply::Hang => std::future::pending().await,
            Reply::Cut => return Ok(()),
        }
        stream.flush().await?;
    }
    Ok(())
}

async fn receive<S: AsyncRead + Unpin>(
    stream: &mut BufReader<S>,
    connection: usize,
) -> std::io::Result<Option<Call>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<_> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut call = Call {
        line: lines[0].clone(),
        headers,
        body: Vec::new(),
        connection,
    };
    let length = call
        .header("content-length")
        .map_or(0, |text| text.parse().unwrap());
    call.body.resize(length, 0);
    stream.read_exact(&mut call.body).await?;
    Ok(Some(call))
}
