//! The two listeners of a process, from their addresses to their end.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use axum::Router;
use common::{
    config::ServerConfig,
    http::{Front, ServeOptions, serve},
    shutdown::Shutdown,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ending::Ending;

/// Bound, and not serving yet: who connects waits.
#[derive(Debug)]
pub(super) struct Listeners {
    public: StdListener,
    internal: StdListener,
    options: ServeOptions,
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
    /// Takes both addresses.
    ///
    /// # Errors
    /// With the key of the address that cannot be had.
    pub(super) fn bind(config: &ServerConfig) -> anyhow::Result<Self> {
        Ok(Self {
            public: listen(config.listen, "server.listen")?,
            internal: listen(config.internal_listen, "server.internal_listen")?,
            options: ServeOptions {
                max_connections: config.max_connections,
                header_timeout: config.header_timeout.0,
            },
        })
    }

    /// Begins to answer on both by this router. To be stopped before [`Self::serve`].
    ///
    /// # Errors
    /// When the system has no descriptor to spare.
    pub(super) fn meanwhile(&self, router: &Router) -> anyhow::Result<Meanwhile> {
        let (stop, shutdown) = (CancellationToken::new(), Shutdown::new());
        for listener in [&self.public, &self.internal] {
            tokio::spawn(serve(
                TcpListener::from_std(listener.try_clone()?)?,
                router.clone(),
                None,
                self.options,
                stop.clone(),
                shutdown.clone(),
            ));
        }
        Ok(Meanwhile { stop, shutdown })
    }

    /// Begins to serve.
    ///
    /// # Errors
    /// When the system does not say where it listens.
    pub(super) fn serve(self, public: Site, internal: Site) -> anyhow::Result<Serving> {
        let address = self.public.local_addr()?;
        tracing::info!(public = %address, internal = %self.internal.local_addr()?, "listening");
        let (stop, shutdown) = (CancellationToken::new(), Shutdown::new());
        for (listener, site) in [(self.public, public), (self.internal, internal)] {
            tokio::spawn(serve(
                TcpListener::from_std(listener)?,
                site.router,
                site.front,
                self.options,
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

fn listen(address: SocketAddr, key: &str) -> anyhow::Result<StdListener> {
    let listener = match StdListener::bind(address) {
        Ok(listener) => listener,
        Err(error) => anyhow::bail!("{key}: cannot listen on {address}: {error}"),
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}
