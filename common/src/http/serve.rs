//! A listener: accept, bound, hand to the router, and end in order.

use std::{convert::Infallible, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{BoundedWrites, Connection, Rewound};
use crate::shutdown::Shutdown;

/// The other end's address. In the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Cancelled when the listener stops. In the extensions of every request, for those that last.
#[derive(Debug, Clone)]
pub struct Stopping(pub CancellationToken);

/// How a listener serves.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Open HTTP connections; beyond, the listener waits before it accepts.
    pub max_connections: usize,
    /// Time to receive a request's head.
    pub header_timeout: Duration,
    /// HTTP/2 instead of HTTP/1.
    pub http2: Option<Http2>,
}

/// Bounds of an HTTP/2 connection.
#[derive(Debug, Clone, Copy)]
pub struct Http2 {
    /// Requests at once.
    pub max_streams: u32,
    /// The other end is asked whether it is there after so long without anything from it.
    pub keepalive: Duration,
    /// And has so long for its answer.
    pub keepalive_timeout: Duration,
}

/// Bytes of an HTTP/2 request's head at the most: a token, a key and what tracing adds.
const MAX_HEAD: u32 = 32 * 1024;

/// What sees a new connection before HTTP does: it serves the connection itself, until the token is cancelled, and
/// answers none, or gives it back with what it has read.
pub type Front = Arc<
    dyn Fn(TcpStream, SocketAddr, CancellationToken) -> Pin<Box<dyn Future<Output = Option<Rewound>> + Send>>
        + Send
        + Sync,
>;

/// New connections that are taken one after the other before every other task has its turn.
const ACCEPTS: u32 = 16;

/// Accepts until `stop`, then lets requests that began come to their end. Connections are tasks of `shutdown`. With a
/// front, it is asked first. A client that takes none of its answers for 30 seconds is cut off.
///
/// An upgraded connection leaves this listener's count at once: whoever upgrades it owns it and bounds it.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    front: Option<Front>,
    options: ServeOptions,
    stop: CancellationToken,
    shutdown: Shutdown,
) {
    let slots = Arc::new(Semaphore::new(options.max_connections));
    let mut failures = 0;
    let mut in_a_row = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                failures = 0;
                let (front, router, stop) = (front.clone(), router.clone(), stop.clone());
                shutdown.spawn(async move {
                    let left = match front {
                        Some(front) => front(stream, peer, stop.clone()).await,
                        None => Some(stream.into()),
                    };
                    if let Some(connection) = left {
                        // Boxed: most connections of a hub never come here, and their task is small.
                        let held = Connection::new(permit);
                        Box::pin(serve_http(connection, peer, router, options, stop, held)).await;
                    }
                });
                in_a_row += 1;
                if in_a_row == ACCEPTS {
                    // In a storm the queue of the listener is never empty; deliveries must not wait for its end.
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                let Some(pause) = pause(&error, &mut failures) else {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                    continue;
                };
                tracing::warn!(%error, failures, "cannot accept a connection");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<Accepted> {
    let permit = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    if let Err(error) = stream.set_nodelay(true) {
        // The peer has gone already; whoever reads from it is told.
        tracing::debug!(%error, %peer, "a connection ended at once");
    }
    Ok((stream, peer, permit))
}

/// How long to wait after so many failures in a row; none where the error is the peer's (accept(2)), as the next
/// connection may be good.
///
/// Out of descriptors or memory, waiting is all that helps: the listener stays readable, and would be asked without end.
fn pause(error: &io::Error, failures: &mut u32) -> Option<Duration> {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    let of_the_peer = matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted);
    if of_the_peer {
        return None;
    }
    *failures = failures.saturating_add(1);
    Some(Duration::from_millis(u64::from((*failures).min(50)) * 20))
}

async fn serve_http(
    connection: Rewound,
    peer: SocketAddr,
    router: Router,
    options: ServeOptions,
    stop: CancellationToken,
    held: Connection,
) {
    let extensions = (Peer(peer), held.clone(), Stopping(stop.clone()));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let (peer, connection, stopping) = extensions.clone();
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(connection);
        request.extensions_mut().insert(stopping);
        let answer = router.clone().oneshot(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let io = TokioIo::new(BoundedWrites::new(connection, held.clone()));
    let ended = match options.http2 {
        None => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(options.header_timeout)
                .serve_connection(io, service)
                .with_upgrades();
            until_ended(connection, |it| it.graceful_shutdown(), &held, &stop).await
        }
        Some(bounds) => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(bounds.max_streams)
                .max_header_list_size(MAX_HEAD)
                .keep_alive_interval(bounds.keepalive)
                .keep_alive_timeout(bounds.keepalive_timeout)
                .serve_connection(io, service);
            until_ended(connection, |it| it.graceful_shutdown(), &held, &stop).await
        }
    };
    // Also where a request lives on with what it was upgraded to.
    held.leave_count();
    if let Some(Err(error)) = ended {
        // A client that goes away in the middle is no fault of ours.
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// Drives a connection; with the stop it takes no more requests. None: somebody hung up.
async fn until_ended<C: Future>(
    connection: C,
    leave: impl Fn(Pin<&mut C>),
    held: &Connection,
    stop: &CancellationToken,
) -> Option<C::Output> {
    tokio::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return Some(ended),
            () = held.hung_up() => return None,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                leave(connection.as_mut());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waiting_helps_against_is_waited_for() {
        let mut failures = 0;
        // ECONNABORTED, ECONNRESET
        for code in [103, 104] {
            assert_eq!(pause(&io::Error::from_raw_os_error(code), &mut failures), None);
        }
        assert_eq!(failures, 0);
        // ENFILE, EMFILE, ENOBUFS, ENOMEM
        for (code, milliseconds) in [(23, 20), (24, 40), (105, 60), (12, 80)] {
            let waited = pause(&io::Error::from_raw_os_error(code), &mut failures);
            assert_eq!(waited, Some(Duration::from_millis(milliseconds)));
        }
        failures = u32::MAX;
        let longest = pause(&io::Error::from_raw_os_error(24), &mut failures);
        assert_eq!(longest, Some(Duration::from_secs(1)));
    }
}
