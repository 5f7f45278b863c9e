//! One request and its answer over a kept or a new connection, with what is needed to say how it ended: before the first
//! byte was written nothing was sent, after it nobody can tell.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::{
    connect::{Connector, NotConnected, Wire},
    guard::{Destination, Origin},
    payload::Payload,
};

/// A connection that was idle longer is not used again. Servers close them after 5 seconds (Node.js) or later.
const IDLE: Duration = Duration::from_secs(4);

/// Most of an answer's body that is read so that its connection can be used again.
const MAX_BODY: usize = 64 * 1024;

/// Of which so much is kept.
const EXCERPT: usize = 512;

/// How long the body is waited for. The status has said everything already.
const BODY_WITHIN: Duration = Duration::from_secs(2);

/// Bytes and lines of an answer's head.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;

/// The head of an answer and the beginning of its body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) excerpt: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It may not be called.
    Forbidden(&'static str),
    /// It was not called.
    NotSent(String),
    /// It was called, and what became of that is not known.
    Unknown(String),
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Whether anything was written since this was stored false.
    written: Arc<AtomicBool>,
    idle_since: Instant,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Calls receivers, and keeps a bounded number of idle connections.
#[derive(Debug)]
pub(super) struct Client {
    connector: Connector,
    within: Duration,
    idle: Mutex<HashMap<Origin, Vec<Connection>>>,
    idle_max: usize,
}

impl Client {
    pub(super) fn new(connector: Connector, within: Duration, idle_max: usize) -> Self {
        Self {
            connector,
            within,
            idle: Mutex::default(),
            idle_max,
        }
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Posts the payload.
    pub(super) async fn post(
        &self,
        destination: &Destination,
        payload: &Payload,
    ) -> Result<Answer, NoAnswer> {
        let deadline = Instant::now() + self.within;
        let request = || request(destination, payload);
        while let Some(mut connection) = self.take_idle(&destination.origin) {
            // It may have been closed while it was idle.
            if !matches!(timeout_at(deadline, connection.sender.ready()).await, Ok(Ok(()))) {
                continue;
            }
            match self
                .send(&destination.origin, connection, request()?, deadline)
                .await
            {
                Err(NoAnswer::NotSent(_)) if Instant::now() < deadline => {}
                ended => return ended,
            }
        }
        // Rare, and large: not a part of every call's future.
        let connection = Box::pin(self.open(destination, deadline)).await?;
        self.send(&destination.origin, connection, request()?, deadline)
            .await
    }

    async fn open(&self, destination: &Destination, deadline: Instant) -> Result<Connection, NoAnswer> {
        let wire = match self.connector.connect(destination, deadline).await {
            Ok(wire) => wire,
            Err(NotConnected::Forbidden) => {
                return Err(NoAnswer::Forbidden(
                    "the host has no public address (webhook.allow_private)",
                ));
            }
            Err(NotConnected::Failed(why)) => return Err(NoAnswer::NotSent(why)),
        };
        let written = wire.written();
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
        let (sender, connection) = builder
            .handshake::<_, Full<Bytes>>(TokioIo::<Wire>::new(wire))
            .await
            .map_err(|error| NoAnswer::NotSent(error.to_string()))?;
        // Ends when the sender is dropped, or the receiver closes it.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a receiver ended");
            }
        });
        Ok(Connection {
            sender,
            written,
            idle_since: Instant::now(),
        })
    }

    async fn send(
        &self,
        origin: &Origin,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Answer, NoAnswer> {
        connection.written.store(false, Ordering::Release);
        let why = match timeout_at(deadline, connection.sender.send_request(request)).await {
            Ok(Ok(response)) => return Ok(self.finish(origin, connection, response, deadline).await),
            Ok(Err(error)) => describe(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        Err(if connection.written.load(Ordering::Acquire) {
            NoAnswer::Unknown(why)
        } else {
            NoAnswer::NotSent(why)
        })
    }

    /// Reads what is worth it of the body, and keeps the connection where the body came whole.
    async fn finish(
        &self,
        origin: &Origin,
        mut connection: Connection,
        response: http::Response<Incoming>,
        deadline: Instant,
    ) -> Answer {
        let (head, body) = response.into_parts();
        let deadline = deadline.min(Instant::now() + BODY_WITHIN);
        let mut excerpt = Vec::new();
        if let Ok(true) = timeout_at(deadline, read(body, &mut excerpt)).await {
            connection.idle_since = Instant::now();
            self.keep(origin, connection);
        }
        Answer {
            status: head.status,
            headers: head.headers,
            excerpt,
        }
    }

    fn keep(&self, origin: &Origin, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.lock();
        if idle.values().map(Vec::len).sum::<usize>() >= self.idle_max {
            idle.retain(|_, connections| {
                connections.retain(Connection::is_fresh);
                !connections.is_empty()
            });
            // None is old: another receiver's gives way.
            if idle.values().map(Vec::len).sum::<usize>() >= self.idle_max {
                let other = idle.keys().find(|key| *key != origin).cloned();
                match other {
                    Some(other) => drop(idle.remove(&other)),
                    None => return,
                }
            }
        }
        idle.entry(origin.clone()).or_default().push(connection);
    }

    /// The connection that was used last, so that those which are not needed grow old.
    fn take_idle(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.lock();
        let connections = idle.get_mut(origin)?;
        connections.retain(Connection::is_fresh);
        let connection = connections.pop();
        if connections.is_empty() {
            idle.remove(origin);
        }
        connection
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn is_fresh(&self) -> bool {
        self.idle_since.elapsed() < IDLE && !self.sender.is_closed()
    }
}

fn request(destination: &Destination, payload: &Payload) -> Result<Request<Full<Bytes>>, NoAnswer> {
    let unusable = || NoAnswer::Forbidden("the URL cannot be written in a request");
    let mut request = Request::new(Full::new(payload.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = destination.path.parse::<Uri>().map_err(|_| unusable())?;
    *request.headers_mut() = payload.headers.clone();
    let host = HeaderValue::from_str(&destination.authority).map_err(|_| unusable())?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

/// Reads a body up to its bound; whether it came whole.
async fn read(mut body: Incoming, excerpt: &mut Vec<u8>) -> bool {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let Ok(mut data) = frame.into_data() else { continue };
        length += data.len();
        let wanted = EXCERPT.saturating_sub(excerpt.len()).min(data.len());
        excerpt.extend_from_slice(&data.copy_to_bytes(wanted));
        if length > MAX_BODY {
            return false;
        }
    }
    true
}

/// The error and what caused it; hyper's own says only where.
fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
