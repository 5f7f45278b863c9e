//! One connection to one server.
//!
//! It is not fred's, which the rest of Carillon uses: a publish and its `WAIT` have to go over one connection that is known
//! not to have been made anew between them, and a subscriber has to see what fred swallows (the `sunsubscribe` of a slot that
//! moved away, the second and later confirmations of one `SSUBSCRIBE`). The parsing is that of `redis-protocol`, as in fred.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use redis_protocol::resp3::{decode::complete::decode_bytes_mut, types::BytesFrame};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls};

use super::wire::{Commands, Refusal, list, text};
use crate::redis::Endpoint;

/// What is read at once.
const READ: usize = 64 * 1024;

/// A larger reply is nothing that the bus asked for.
const MAX_REPLY: usize = 512 * 1024 * 1024;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Place {
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        Self {
            host: endpoint.host.clone(),
            port: endpoint.port,
        }
    }

    /// Reads `host:port`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self {
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }
}

/// Who is logged in.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
}

impl Credentials {
    /// Those that stand in a URL.
    pub(super) fn of(endpoint: &Endpoint) -> Option<Self> {
        endpoint.password.as_ref().map(|password| Self {
            username: endpoint.username.clone(),
            password: Some(password.clone()),
        })
    }

    /// Of all URLs that have some.
    pub(super) fn by_place<'e>(endpoints: impl Iterator<Item = &'e Endpoint>) -> HashMap<Place, Self> {
        endpoints
            .filter_map(|endpoint| Some((Place::of(endpoint), Self::of(endpoint)?)))
            .collect()
    }
}

/// How connections are made.
#[derive(Debug, Clone)]
pub(super) struct Dialing {
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// Of every server that has none of its own.
    pub(super) credentials: Credentials,
    /// Of servers that were configured with some.
    pub(super) own: Arc<HashMap<Place, Credentials>>,
    /// As `CLIENT LIST` shows it.
    pub(super) name: String,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
}

/// Why a connection is of no use, or of no more use.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum LinkError {
    /// It cannot be made, or broke.
    #[error("{0}")]
    Broken(String),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// What came is not what Redis says.
    #[error("not understood: {0}")]
    Protocol(String),
    /// The server is not what it has to be.
    #[error("{0}")]
    Unfit(String),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// A connection over which nothing but RESP3 goes.
pub(super) struct Link {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

/// The end from which replies and pushes come.
pub(super) struct Reader {
    half: ReadHalf<Box<dyn Stream>>,
    buffer: BytesMut,
}

/// The end to which commands go.
pub(super) struct Writer {
    half: WriteHalf<Box<dyn Stream>>,
}

impl Link {
    /// Connects, logs in, and checks the version.
    ///
    /// # Errors
    /// [`LinkError`]; no text in it holds a password.
    pub(super) async fn connect(place: &Place, dialing: &Dialing) -> Result<Self, LinkError> {
        let stream = timeout(dialing.connect_timeout, open(place, dialing))
            .await
            .map_err(|_| LinkError::TimedOut)??;
        let (reader, writer) = tokio::io::split(stream);
        let mut link = Self {
            reader: Reader {
                half: reader,
                buffer: BytesMut::new(),
            },
            writer: Writer { half: writer },
        };
        let mut hello = Commands::default();
        let credentials = dialing.own.get(place).unwrap_or(&dialing.credentials);
        let user = credentials.username.as_deref().unwrap_or("default");
        let secret = credentials.password.as_ref().map(ExposeSecret::expose_secret);
        match secret {
            Some(secret) => hello.push(&[
                b"HELLO",
                b"3",
                b"AUTH",
                user.as_bytes(),
                secret.as_bytes(),
                b"SETNAME",
                dialing.name.as_bytes(),
            ]),
            None => hello.push(&[b"HELLO", b"3", b"SETNAME", dialing.name.as_bytes()]),
        }
        let replies = link.call(&hello, dialing.timeout).await?;
        let reply = replies.first().ok_or(LinkError::TimedOut)?;
        if let Some(refusal) = Refusal::in_reply(reply) {
            return Err(LinkError::Unfit(format!(
                "the server refuses to be talked to: {refusal:?}"
            )));
        }
        require_version(reply)?;
        Ok(link)
    }

    /// Sends commands and takes their replies; pushes between them are dropped.
    ///
    /// # Errors
    /// [`LinkError`]: the connection is of no more use.
    pub(super) async fn call(
        &mut self,
        commands: &Commands,
        within: Duration,
    ) -> Result<Vec<BytesFrame>, LinkError> {
        let work = async {
            self.writer.send(commands).await?;
            let mut replies = Vec::with_capacity(commands.count());
            while replies.len() < commands.count() {
                let frame = self.reader.next().await?;
                if !matches!(frame, BytesFrame::Push { .. }) {
                    replies.push(frame);
                }
            }
            Ok(replies)
        };
        timeout(within, work).await.map_err(|_| LinkError::TimedOut)?
    }
}

impl Writer {
    pub(super) async fn send(&mut self, commands: &Commands) -> Result<(), LinkError> {
        self.half.write_all(commands.bytes()).await?;
        self.half.flush().await?;
        Ok(())
    }
}

impl Reader {
    /// The next reply or push. Cancelling this loses nothing.
    pub(super) async fn next(&mut self) -> Result<BytesFrame, LinkError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            if self.buffer.len() > MAX_REPLY {
                return Err(LinkError::Protocol("a reply without end".to_owned()));
            }
            self.buffer.reserve(READ);
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Err(LinkError::Broken("the server closed the connection".to_owned()));
            }
        }
    }

    /// A reply or push that has arrived whole.
    pub(super) fn buffered(&mut self) -> Result<Option<BytesFrame>, LinkError> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        match decode_bytes_mut(&mut self.buffer) {
            Ok(Some((frame, _, _))) => Ok(Some(frame)),
            Ok(None) => Ok(None),
            Err(error) => Err(LinkError::Protocol(error.to_string())),
        }
    }
}

async fn open(place: &Place, dialing: &Dialing) -> Result<Box<dyn Stream>, LinkError> {
    let tcp = TcpStream::connect((place.host.as_str(), place.port)).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = &dialing.tls else {
        return Ok(Box::new(tcp));
    };
    let name = rustls::pki_types::ServerName::try_from(place.host.clone())
        .map_err(|_| LinkError::Unfit("its name cannot stand in a certificate".to_owned()))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?;
    Ok(Box::new(stream))
}

/// Sharded channels came with 7.0.
fn require_version(hello: &BytesFrame) -> Result<(), LinkError> {
    let version = match hello {
        BytesFrame::Map { data, .. } => data
            .iter()
            .find(|(key, _)| text(key) == Some("version"))
            .and_then(|(_, value)| text(value)),
        // What answers a list here speaks RESP2.
        other => list(other).and(None),
    };
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(7..) => Ok(()),
        _ => {
            let found = version.unwrap_or("something else");
            Err(LinkError::Unfit(format!(
                "Redis 7.0 or newer is needed, this is {found}"
            )))
        }
    }
}
