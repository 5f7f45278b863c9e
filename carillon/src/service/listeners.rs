//! The listeners of a process, from their addresses to their end.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use axum::Router;
use common::{
    grpc::preface,
    http::{Front, ServeOptions, serve},
    shutdown::Shutdown,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ending::Ending;
use crate::{config::Config, grpc};

/// Bound, and not serving yet: who connects waits.
#[derive(Debug)]
pub(super) struct Listeners {
    public: StdListener,
    internal: StdListener,
    /// Of a process with a dispatcher, where it is wanted.
    grpc: Option<StdListener>,
    options: ServeOptions,
    grpc_options: ServeOptions,
}

/// What is behind a listener.
pub(super) struct Site {
    pub(super) router: Router,
    /// Sees connections before HTTP does.
    pub(super) front: Option<Front>,
}

/// Requests that began while a process waited have so long at the most. None of them waits for anything.
const MEANWHILE: Duration = Duration::from_secs(2);

/// Answers while a process waits for what it needs.
#[derive(Debug)]
pub(super) struct Meanwhile {
    stop: CancellationToken,
    shutdown: Shutdown,
}

/// Listeners that serve.
#[derive(Debug)]
pub(super) struct Serving {
    /// The public listener's.
    pub(super) address: SocketAddr,
    stop: CancellationToken,
    shutdown: Shutdown,
}

impl Listeners {
    /// Takes the addresses; gRPC's where the process has a dispatcher.
    ///
    /// # Errors
    /// With the key of the address that cannot be had.
    pub(super) fn bind(config: &Config, dispatches: bool) -> anyhow::Result<Self> {
        let (server, grpc) = (&config.server, config.server.grpc_listen.filter(|_| dispatches));
        let options = ServeOptions {
            max_connections: server.max_connections,
            header_timeout: server.header_timeout.0,
            http2: None,
        };
        Ok(Self {
            public: listen(server.listen, "server.listen")?,
            internal: listen(server.internal_listen, "server.internal_listen")?,
            grpc: grpc
                .map(|address| listen(address, "server.grpc_listen"))
                .transpose()?,
            options,
            grpc_options: ServeOptions {
                http2: Some(grpc::http2(&config.grpc)),
                ..options
            },
        })
    }

    /// Begins to answer by these routers. To be stopped before [`Self::serve`].
    ///
    /// # Errors
    /// When the system has no descriptor to spare.
    pub(super) fn meanwhile(&self, router: &Router, grpc: &Router) -> anyhow::Result<Meanwhile> {
        let (stop, shutdown) = (CancellationToken::new(), Shutdown::new());
        let http = [&self.public, &self.internal].map(|listener| (listener, router, self.options));
        let grpc = self
            .grpc
            .as_ref()
            .map(|listener| (listener, grpc, self.grpc_options));
        for (listener, router, options) in http.into_iter().chain(grpc) {
            tokio::spawn(serve(
                TcpListener::from_std(listener.try_clone()?)?,
                router.clone(),
                front_of(options),
                options,
                stop.clone(),
                shutdown.clone(),
            ));
        }
        Ok(Meanwhile { stop, shutdown })
    }

    /// Begins to serve; `grpc` where there is a dispatcher.
    ///
    /// # Errors
    /// When the system does not say where it listens.
    pub(super) fn serve(self, public: Site, internal: Site, grpc: Option<Router>) -> anyhow::Result<Serving> {
        let address = self.public.local_addr()?;
        tracing::info!(public = %address, internal = %self.internal.local_addr()?, "listening");
        let (stop, shutdown) = (CancellationToken::new(), Shutdown::new());
        let http = [(self.public, public), (self.internal, internal)];
        let mut sites = Vec::from(http.map(|(listener, site)| (listener, site, self.options)));
        if let (Some(listener), Some(router)) = (self.grpc, grpc) {
            tracing::info!(grpc = %listener.local_addr()?, "listening");
            let front = front_of(self.grpc_options);
            sites.push((listener, Site { router, front }, self.grpc_options));
        }
        for (listener, site, options) in sites {
            tokio::spawn(serve(
                TcpListener::from_std(listener)?,
                site.router,
                site.front,
                options,
                stop.clone(),
                shutdown.clone(),
            ));
        }
        Ok(Serving {
            address,
            stop,
            shutdown,
        })
    }
}

impl Meanwhile {
    /// Ends the connections, of which clients make new ones.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if !self.shutdown.finish(MEANWHILE).await {
            tracing::debug!("some connections of the time of waiting did not end in time");
        }
    }
}

impl Serving {
    /// Nothing new is accepted; requests that began go on.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// For what ends with the listeners.
    pub(super) fn token(&self) -> CancellationToken {
        self.shutdown.token()
    }

    /// Waits for requests that began, as long as the end allows.
    pub(super) async fn finish(&self, ending: &Ending) {
        self.stop();
        if !self.shutdown.finish(ending.for_requests()).await {
            tracing::warn!("some requests did not end in time");
        }
    }
}

/// Who has to begin with HTTP/2 does so in the time that HTTP/1 has for a head.
fn front_of(options: ServeOptions) -> Option<Front> {
    options.http2.map(|_| preface(options.header_timeout))
}

fn listen(address: SocketAddr, key: &str) -> anyhow::Result<StdListener> {
    let listener = match StdListener::bind(address) {
        Ok(listener) => listener,
        Err(error) => anyhow::bail!("{key}: cannot listen on {address}: {error}"),
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}
