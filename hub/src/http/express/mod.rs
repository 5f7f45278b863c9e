//! Express: single publishes over kept connections of the internal listener, without a general HTTP server.
//!
//! A publisher sends the same small request again and again. Heads are read with the parser that the ordinary
//! server uses, all requests that have arrived are answered with one write, and none has a timer of its own. At the
//! first request that is not a plain `POST /api/v1/publish` the connection goes to the ordinary server, from that
//! request's first byte on, and stays there.

mod head;
mod respond;

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, BytesMut};
use common::{
    credential::Denied,
    http::{BODY_TIME, Caller, Front, Problem, Rewound, body_timeout, client_address, is_json, not_json},
    token::{Identity, TokenError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::head::{Head, Publish};
use super::{
    publish,
    round::{Prepared, Round},
};
use crate::Hub;

/// Room for what arrives; several publishes of usual size.
const ROOM: usize = 16 * 1024;

/// A head that is longer is for the ordinary server, which refuses it or not.
const MAX_HEAD: usize = 16 * 1024;

/// Answers that are kept back while further requests are at hand, in bytes.
const MAX_OUT: usize = 64 * 1024;

/// Time in which a client has to take its answers.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// What has to come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    /// The rest of a head, or its beginning.
    Head,
    /// The rest of a request that is so long.
    Body(usize),
}

/// How far the requests at hand were taken.
enum Gathered {
    /// To the last whole one; what comes next, or none when that is for the ordinary server.
    All(Option<Awaiting>),
    /// Until the round was full.
    Full,
    /// To a request whose token or key has to be looked up first.
    Unknown(String, IpAddr),
}

/// Who showed what was looked up for the request that comes next.
type LookedUp = (String, Result<Arc<Identity>, Denied>);

/// A connection that publishes.
struct Express<'a> {
    hub: &'a Hub,
    peer: SocketAddr,
    stream: TcpStream,
    input: BytesMut,
    /// Requests that are whole and not published yet. They go to the bus together.
    round: Round,
    looked_up: Option<LookedUp>,
    out: Vec<u8>,
    limit: usize,
}

/// What stands before an internal listener. A head, also the wait for it, may take `header_timeout`.
#[must_use]
pub fn express(hub: &Hub, header_timeout: Duration) -> Front {
    let hub = hub.clone();
    Arc::new(move |stream, peer, stop| {
        let hub = hub.clone();
        Box::pin(async move {
            let connection = Express {
                limit: super::single_limit(&hub),
                hub: &hub,
                peer,
                stream,
                input: BytesMut::new(),
                round: Round::new(&hub),
                looked_up: None,
                out: Vec::new(),
            };
            // A client that goes away in the middle is no fault of ours.
            let ended = |error| tracing::debug!(%error, %peer, "connection ended");
            connection
                .run(header_timeout, &stop)
                .await
                .map_err(ended)
                .ok()
                .flatten()
        })
    })
}

impl Express<'_> {
    async fn run(
        mut self,
        header_timeout: Duration,
        stop: &CancellationToken,
    ) -> std::io::Result<Option<Rewound>> {
        // One timer a connection. It is looked at when it fires, and set again where something came meanwhile.
        let mut timer = pin!(tokio::time::sleep(header_timeout));
        let mut stopped = pin!(stop.cancelled());
        let mut deadline = Instant::now() + header_timeout;
        let mut awaiting = Awaiting::Head;
        loop {
            let Some(next) = self.answer_all(awaiting).await? else {
                self.flush().await?;
                return Ok(Some(self.rewound()));
            };
            let answered = !self.out.is_empty();
            self.flush().await?;
            if answered || next != awaiting {
                awaiting = next;
                let time = if awaiting == Awaiting::Head {
                    header_timeout
                } else {
                    BODY_TIME
                };
                deadline = Instant::now() + time;
            }
            self.make_room(awaiting);
            loop {
                tokio::select! {
                    biased;
                    // The ordinary server ends connections in order; a request that has begun is answered before.
                    () = stopped.as_mut(), if awaiting == Awaiting::Head => return Ok(Some(self.rewound())),
                    read = self.stream.read_buf(&mut self.input) => {
                        if read? == 0 {
                            return Ok(None);
                        }
                        break;
                    }
                    () = timer.as_mut() => {
                        if Instant::now() >= deadline {
                            return self.timed_out(awaiting).await;
                        }
                        timer.as_mut().reset(deadline);
                    }
                }
            }
        }
    }

    /// Answers every request that is whole; none when the next one is for the ordinary server.
    async fn answer_all(&mut self, mut awaiting: Awaiting) -> std::io::Result<Option<Awaiting>> {
        loop {
            let began =
                tracing::enabled!(target: "access", tracing::Level::INFO).then(std::time::Instant::now);
            let gathered = self.gather(awaiting);
            self.answer_round(began).await;
            match gathered {
                Gathered::All(next) => return Ok(next),
                Gathered::Full => awaiting = Awaiting::Head,
                Gathered::Unknown(shown, from) => {
                    let verified = self.hub.inner.shared.credentials.verify(&shown, from).await;
                    self.looked_up = Some((shown, verified));
                    awaiting = Awaiting::Head;
                }
            }
            self.hub.inner.pressure.relief().await;
            if self.out.len() >= MAX_OUT {
                // Who does not take answers gets no further work done.
                self.flush().await?;
            }
        }
    }

    /// Takes whole requests into the round.
    fn gather(&mut self, mut awaiting: Awaiting) -> Gathered {
        loop {
            if let Awaiting::Body(whole) = awaiting
                && self.input.len() < whole
            {
                return Gathered::All(Some(awaiting));
            }
            if self.input.is_empty() {
                return Gathered::All(Some(Awaiting::Head));
            }
            match Head::read(&self.input, self.limit) {
                Head::Partial if self.input.len() < MAX_HEAD => {
                    return Gathered::All(Some(Awaiting::Head));
                }
                Head::Partial | Head::Other => return Gathered::All(None),
                Head::Publish(publish) => {
                    let whole = publish.head + publish.body;
                    if self.input.len() < whole {
                        return Gathered::All(Some(Awaiting::Body(whole)));
                    }
                    let from = address(self.hub, self.peer, publish.forwarded);
                    let Some(caller) = caller(self.hub, publish.shown, from, &mut self.looked_up) else {
                        return Gathered::Unknown(publish.shown.unwrap_or_default().to_owned(), from);
                    };
                    let body = &self.input[publish.head..whole];
                    self.round.add(read(self.hub, caller, &publish, body));
                    self.input.advance(whole);
                    awaiting = Awaiting::Head;
                    if self.round.is_full() {
                        return Gathered::Full;
                    }
                }
            }
        }
    }

    /// Publishes the round; the answers stand in the order of the requests.
    async fn answer_round(&mut self, began: Option<std::time::Instant>) {
        if self.round.is_empty() {
            return;
        }
        for result in self.round.publish(&self.hub.inner.publisher).await {
            let status = match result {
                Ok(answer) => {
                    let mut text = Vec::with_capacity(256);
                    answer.write(&mut text);
                    respond::ok(&mut self.out, &text);
                    200
                }
                Err(problem) => {
                    let status = problem.status.as_u16();
                    respond::problem(&mut self.out, problem, false).await;
                    status
                }
            };
            if let Some(began) = began {
                let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(target: "access", method = "POST", path = head::PATH, status, duration_ms, "request");
            }
        }
    }

    fn rewound(self) -> Rewound {
        Rewound::new(self.stream, self.input.freeze())
    }

    fn make_room(&mut self, awaiting: Awaiting) {
        let wanted = match awaiting {
            Awaiting::Head => ROOM,
            Awaiting::Body(whole) => whole - self.input.len(),
        };
        if self.input.is_empty() && self.input.capacity() > 4 * ROOM {
            // What one large body took is not kept for the connection's life.
            self.input = BytesMut::new();
        }
        // Half of the room is enough; asking for all of it each time would move what is there each time.
        if self.input.capacity() - self.input.len() < wanted.min(ROOM / 2) || wanted > ROOM {
            self.input.reserve(wanted);
        }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = match self.stream.try_write(&self.out) {
            Ok(written) => written,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if written < self.out.len() {
            timeout(WRITE_TIME, self.stream.write_all(&self.out[written..])).await??;
        }
        self.out.clear();
        self.out.shrink_to(2 * MAX_OUT);
        Ok(())
    }

    async fn timed_out(mut self, awaiting: Awaiting) -> std::io::Result<Option<Rewound>> {
        tracing::debug!(peer = %self.peer, ?awaiting, "a request took too long to arrive");
        if awaiting != Awaiting::Head {
            respond::problem(&mut self.out, body_timeout(), true).await;
            self.flush().await?;
        }
        Ok(None)
    }
}

fn address(hub: &Hub, peer: SocketAddr, forwarded: Option<&str>) -> IpAddr {
    client_address(peer.ip(), forwarded, &hub.inner.trusted_proxies)
}

/// Who sent a request; none where that has to be looked up.
fn caller(
    hub: &Hub,
    shown: Option<&str>,
    from: IpAddr,
    looked_up: &mut Option<LookedUp>,
) -> Option<Result<Arc<Identity>, Denied>> {
    let Some(shown) = shown else {
        return Some(Err(TokenError::Missing.into()));
    };
    match looked_up.take() {
        Some((before, verified)) if before == shown => Some(verified),
        _ => hub.inner.shared.credentials.known(shown, from),
    }
}

fn read(
    hub: &Hub,
    caller: Result<Arc<Identity>, Denied>,
    request: &Publish<'_>,
    body: &[u8],
) -> Result<Prepared, Problem> {
    let caller = Caller(caller?);
    if !request.content_type.is_some_and(is_json) {
        return Err(not_json());
    }
    publish::read(&hub.inner.publisher, &caller, body, request.key)
}
