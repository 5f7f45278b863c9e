//! A listener: accept, bound, hand to the router, and end in order.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::shutdown::Shutdown;

/// The other end's address. In the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

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
                    connection(stream, peer, router, options, stop).await;
                    drop(permit);
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

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

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
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let answer = router.clone().oneshot(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that goes away in the middle is no fault of ours.
        tracing::debug!(%error, %peer, "connection ended");
    }
}
