//! A listener: accept, bound, hand to the router, and end in order.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::shutdown::Shutdown;

/// The other end's address. In the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The connection that a request came by. In the extensions of every request. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Held>);

#[derive(Debug)]
struct Held {
    slot: Mutex<Option<OwnedSemaphorePermit>>,
    hang_up: Notify,
}

impl Connection {
    fn new(slot: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Held {
            slot: Mutex::new(Some(slot)),
            hang_up: Notify::new(),
        }))
    }

    /// Takes the connection out of its listener's count: for an answer that lasts. Whoever gives it bounds it, and
    /// closes the connection behind it.
    pub fn leave_count(&self) {
        drop(self.0.slot.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Ends the connection at once, whatever is on its way: for a client that does not read.
    pub fn hang_up(&self) {
        self.0.hang_up.notify_one();
    }
}

/// How a listener serves.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Open HTTP connections; beyond, the listener waits before it accepts.
    pub max_connections: usize,
    /// Time to receive a request's head.
    pub header_timeout: Duration,
}

/// Accepts until `stop`, then lets requests that began come to their end. Connections are tasks of `shutdown`.
///
/// An upgraded connection leaves this listener's count at once: whoever upgrades it owns it and bounds it.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    stop: CancellationToken,
    shutdown: Shutdown,
) {
    let slots = Arc::new(Semaphore::new(options.max_connections));
    let mut failures = 0u32;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                failures = 0;
                let router = router.clone();
                let stop = stop.clone();
                shutdown.spawn(async move {
                    let held = Connection::new(permit);
                    connection(stream, peer, router, options, stop, held.clone()).await;
                    held.leave_count();
                });
            }
            Err(error) => {
                // Out of descriptors or memory: waiting is all that helps, and the reason must be seen.
                failures = failures.saturating_add(1);
                tracing::warn!(%error, failures, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(u64::from(failures.min(50)) * 20)).await;
            }
        }
    }
}

type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> std::io::Result<Accepted> {
    let permit = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    options: ServeOptions,
    stop: CancellationToken,
    held: Connection,
) {
    let extension = held.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(extension.clone());
        let answer = router.clone().oneshot(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = held.0.hang_up.notified() => return,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        // A client that goes away in the middle is no fault of ours.
        tracing::debug!(%error, %peer, "connection ended");
    }
}
