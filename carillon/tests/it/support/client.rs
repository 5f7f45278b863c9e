//! An HTTP client with one kept connection.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// No whole answer came: whether the server did what was asked is not known.
#[derive(Debug)]
pub(crate) struct NoAnswer;

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `code` and `field` of a problem, after checking that it is one.
    pub(crate) fn problem(&self) -> (String, Option<String>) {
        let kind = self
            .headers
            .get(header::CONTENT_TYPE)
            .map(|kind| kind.to_str().unwrap());
        assert_eq!(kind, Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        for field in ["type", "title", "detail"] {
            assert!(
                problem[field].as_str().is_some_and(|text| !text.is_empty()),
                "no {field}: {problem}"
            );
        }
        let code = problem["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no code: {problem}"));
        (code.to_owned(), problem["field"].as_str().map(str::to_owned))
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, NoAnswer> {
        let stream = TcpStream::connect(address).await.map_err(|_| NoAnswer)?;
        stream.set_nodelay(true).map_err(|_| NoAnswer)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| NoAnswer)?;
        tokio::spawn(async move {
            // What breaks the connection is told by the request on it.
            connection.await.ok();
        });
        Ok(Self { sender, address })
    }

    pub(crate) async fn get(&mut self, path: &str, token: Option<&str>) -> Result<Answer, NoAnswer> {
        self.send(Method::GET, path, token, Bytes::new()).await
    }

    pub(crate) async fn post(
        &mut self,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<Answer, NoAnswer> {
        self.send(Method::POST, path, token, Bytes::from(body.to_string()))
            .await
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, NoAnswer> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string());
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).unwrap();
        let exchange = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await;
        answer
            .unwrap_or_else(|_| panic!("no answer to {path} within {} s", PATIENCE.as_secs()))
            .map_err(|_| NoAnswer)
    }
}
