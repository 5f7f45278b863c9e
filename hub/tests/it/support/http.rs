//! One HTTP request a connection.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{PATIENCE, soon};

/// An answer; a body that is no JSON is null.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("no HTTP answer: {text}")),
            head: head.to_ascii_lowercase(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Asserts problem+json with this status and code, and answers the field.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Option<&str> {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        assert_eq!(self.body["code"], code, "{self:?}");
        self.body["field"].as_str()
    }
}

/// Sends a request with a JSON body and reads the answer to the end of the connection.
pub(crate) async fn call(address: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let authorization = if token.is_empty() {
        String::new()
    } else {
        format!("Authorization: Bearer {token}\r\n")
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A refused body may not be read to its end.
        stream.write_all(request.as_bytes()).await.ok();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok();
        bytes
    };
    Answer::parse(&soon("an HTTP answer", exchange).await)
}

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Kept {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("sending", self.stream.write_all(bytes.as_ref()))
            .await
            .unwrap();
    }

    /// The next answer; its length has to be announced.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.more().await,
                "ended: {:?}",
                String::from_utf8_lossy(&self.read)
            );
        };
        let length = Answer::parse(&self.read[..head])
            .header("content-length")
            .expect("a length")
            .parse::<usize>()
            .unwrap();
        while self.read.len() < head + length {
            assert!(self.more().await, "ended in a body");
        }
        let bytes: Vec<u8> = self.read.drain(..head + length).collect();
        Answer::parse(&bytes)
    }

    /// The next line, without its end; none when the connection has ended.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=at).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Whether the connection has ended, with nothing before its end.
    pub(crate) async fn ended(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }

    async fn more(&mut self) -> bool {
        // Longer than any time that a server gives; a reset is an end, too.
        let read = timeout(4 * PATIENCE, self.stream.read_buf(&mut self.read)).await;
        read.expect("bytes, or an end").unwrap_or(0) > 0
    }
}
