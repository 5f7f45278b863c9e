//! The publish API, over one kept connection.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::wire::now_us;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection to the internal listener.
#[derive(Debug)]
pub(crate) struct Publisher {
    sender: http1::SendRequest<Full<Bytes>>,
    address: SocketAddr,
    token: String,
    run: String,
    padding: String,
}

impl Publisher {
    pub(crate) async fn connect(
        address: SocketAddr,
        token: &str,
        run: &str,
        size: usize,
    ) -> anyhow::Result<Self> {
        let sender = connection(address)
            .await
            .context("connecting to the internal listener")?;
        Ok(Self {
            sender,
            address,
            token: token.to_owned(),
            run: run.to_owned(),
            padding: "x".repeat(size),
        })
    }

    /// Publishes message `number` and answers when that began, Unix microseconds.
    pub(crate) async fn publish(&mut self, to: &str, number: u64) -> anyhow::Result<u64> {
        let began = now_us();
        let Self { run, padding, .. } = &*self;
        let body =
            format!(r#"{{"to":{to},"data":{{"run":"{run}","n":{number},"t":{began},"pad":"{padding}"}}}}"#);
        let request = Request::builder()
            .method(Method::POST)
            .uri("/api/v1/publish")
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let exchange = async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            anyhow::Ok((status, text(answer.into_body()).await?))
        };
        let (status, answer) = tokio::time::timeout(PATIENCE, exchange)
            .await
            .context("publishing")??;
        if !status.is_success() {
            bail!("publishing was answered with {status}: {answer}");
        }
        Ok(began)
    }

    /// Whether the server at this internal listener takes work.
    pub(crate) async fn ready(address: SocketAddr) -> bool {
        let ask = async {
            let mut sender = connection(address).await?;
            let request = Request::get("/ready")
                .header(header::HOST, address.to_string())
                .body(Full::default())?;
            anyhow::Ok(sender.send_request(request).await?.status().is_success())
        };
        ask.await.unwrap_or(false)
    }
}

async fn text(body: Incoming) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned())
}

async fn connection(address: SocketAddr) -> anyhow::Result<http1::SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // What breaks the connection is told by the next request on it.
        connection.await.ok();
    });
    Ok(sender)
}
