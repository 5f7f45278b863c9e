//! One lean WebSocket client: a handshake, then a reader without a buffer of its own.

use std::{
    cell::RefCell,
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    task::Poll,
};

use anyhow::{Context, bail};
use common::{
    protocol::SUBPROTOCOL,
    token::{NewToken, mint},
};
use secrecy::SecretString;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::{TcpSocket, TcpStream},
};

use crate::{
    frame::{CLOSE, Frames, PING, TEXT, pong},
    wire::Open,
};

/// Largest answer to a handshake.
const MAX_HEAD: usize = 16 * 1024;

thread_local! {
    /// Reads go through one buffer: a client process has one thread, and nothing is kept across a poll.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 * 1024]);
}

/// An open socket.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    frames: Frames,
    replies: Vec<u8>,
}

/// The number of a store or role that a user has; it spreads the users evenly.
fn group(user: u32, groups: u32) -> u32 {
    user % groups
}

/// The token of user number `user`: two roles, a store, the run's tenant.
pub(crate) fn token(open: &Open, user: u32) -> anyhow::Result<String> {
    let new = NewToken {
        user: format!("u{user}"),
        tenant: Some(open.tenant.clone()),
        roles: vec!["loadtest".to_owned(), format!("r{}", group(user, 10))],
        stores: vec![format!("s{}", group(user, 100))],
        ttl_seconds: open.ttl_seconds,
        ..NewToken::default()
    };
    Ok(mint(&new, &SecretString::from(open.secret.clone()))?)
}

impl Client {
    /// Connects from the user's source address and upgrades.
    pub(crate) async fn open(open: &Open, user: u32) -> anyhow::Result<Self> {
        let token = token(open, user)?;
        let mut stream = connect(open.target, open.sources, user).await?;
        let key = handshake_key();
        let request = format!(
            "GET /api/v1/ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\
             Authorization: Bearer {token}\r\n\r\n",
            open.target
        );
        stream
            .write_all(request.as_bytes())
            .await
            .context("sending the handshake")?;
        let mut head = Vec::with_capacity(512);
        let end = loop {
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if head.len() > MAX_HEAD
                || stream
                    .read_buf(&mut head)
                    .await
                    .context("reading the handshake")?
                    == 0
            {
                bail!("the handshake was not answered");
            }
        };
        let status = String::from_utf8_lossy(head.get(9..12).unwrap_or_default()).into_owned();
        if status != "101" {
            bail!("HTTP {status}");
        }
        let mut client = Self {
            stream,
            frames: Frames::default(),
            replies: Vec::new(),
        };
        let mut welcome = false;
        client
            .frames
            .take(&head[end..], |_, payload| welcome |= is_welcome(payload))
            .map_err(|bad| anyhow::anyhow!(bad.0))?;
        while !welcome {
            client
                .read(|payload| welcome |= is_welcome(payload))
                .await
                .map_err(|end| anyhow::anyhow!("{end}"))?;
        }
        Ok(client)
    }

    /// Waits for bytes and hands on the text messages in them. Pings are answered. The error says how the socket ended.
    pub(crate) async fn read(&mut self, mut on: impl FnMut(&[u8])) -> Result<(), String> {
        let Self {
            stream,
            frames,
            replies,
        } = self;
        poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error.kind().to_string())),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        Poll::Ready(Err("end of stream".to_owned()))
                    }
                    Poll::Ready(Ok(())) => {
                        let mut closed = None;
                        let cut = frames.take(buffer.filled(), |opcode, payload| match opcode {
                            TEXT => on(payload),
                            PING => pong(payload, replies),
                            CLOSE => closed = Some(close_code(payload)),
                            _ => {}
                        });
                        Poll::Ready(match (cut, closed) {
                            (Err(bad), _) => Err(bad.0.to_owned()),
                            (_, Some(code)) => Err(code),
                            (Ok(()), None) => Ok(()),
                        })
                    }
                }
            })
        })
        .await?;
        if !replies.is_empty() {
            stream
                .write_all(replies)
                .await
                .map_err(|error| error.kind().to_string())?;
            replies.clear();
        }
        Ok(())
    }
}

fn close_code(payload: &[u8]) -> String {
    match payload {
        [high, low, ..] => u16::from_be_bytes([*high, *low]).to_string(),
        _ => "1005".to_owned(),
    }
}

fn is_welcome(payload: &[u8]) -> bool {
    payload.starts_with(br#"{"type":"welcome""#)
}

/// 16 random bytes in base64 (RFC 6455 section 4.1): 21 characters of 6 bits, one of 2, and the padding.
fn handshake_key() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut key: String = (0..21)
        .map(|_| char::from(ALPHABET[fastrand::usize(..64)]))
        .collect();
    key.push(char::from(ALPHABET[fastrand::usize(..4) * 16]));
    key.push_str("==");
    key
}

/// One source address has about 28,000 ports, so sockets are spread over several.
async fn connect(target: SocketAddr, sources: u8, user: u32) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if target.is_ipv4() {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (user % u32::from(sources)) as u8);
        socket
            .bind(&SocketAddr::new(IpAddr::V4(source), 0).into())
            .context("binding a source address")?;
    }
    let stream = TcpSocket::from_std_stream(socket.into())
        .connect(target)
        .await
        .context("connecting")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sixteen_bytes() {
        let key = handshake_key();
        assert_eq!(key.len(), 24);
        assert!(
            ["A==", "Q==", "g==", "w=="].iter().any(|end| key.ends_with(end)),
            "{key}"
        );
    }
}
