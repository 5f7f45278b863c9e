//! From a judged URL to an open connection: look-up, judgement of the addresses, TCP, TLS.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use common::config::ConfigError;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;

use super::{
    guard::{Destination, Guard},
    resolve::Resolver,
};

/// Why there is no connection. Nothing was said to the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotConnected {
    /// All its addresses are forbidden.
    Forbidden,
    /// Another time it may succeed.
    Failed(String),
}

/// An open connection that knows whether anything was written since it was asked last.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    written: Arc<AtomicBool>,
}

/// Opens connections.
#[derive(Debug)]
pub(super) struct Connector {
    guard: Guard,
    resolver: Resolver,
    tls: Arc<rustls::ClientConfig>,
    within: Duration,
}

impl Connector {
    /// # Errors
    /// [`ConfigError`] where the certificates cannot be read.
    pub(super) fn new(
        guard: Guard,
        resolver: Resolver,
        ca_file: Option<&Path>,
        within: Duration,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            guard,
            resolver,
            tls: tls(ca_file)?,
            within,
        })
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Connects before `deadline`, to an address that was judged.
    pub(super) async fn connect(
        &self,
        destination: &Destination,
        deadline: Instant,
    ) -> Result<Wire, NotConnected> {
        let deadline = deadline.min(Instant::now() + self.within);
        timeout_at(deadline, self.open(destination))
            .await
            .unwrap_or_else(|_| Err(NotConnected::Failed("no connection in time".to_owned())))
    }

    async fn open(&self, destination: &Destination) -> Result<Wire, NotConnected> {
        let tcp = self.tcp(&self.addresses(destination).await?).await?;
        let stream = if destination.origin.https {
            let name = ServerName::try_from(destination.origin.host.clone())
                .map_err(|_| NotConnected::Failed("no certificate can have this name".to_owned()))?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            let stream = connector.connect(name, tcp).await;
            Either::Right(Box::new(
                stream.map_err(|error| NotConnected::Failed(format!("TLS: {error}")))?,
            ))
        } else {
            Either::Left(tcp)
        };
        Ok(Wire {
            stream,
            written: Arc::default(),
        })
    }

    /// The addresses that may be connected to. There is one look-up for each connection.
    async fn addresses(&self, destination: &Destination) -> Result<Vec<SocketAddr>, NotConnected> {
        let port = destination.origin.port;
        let mut found = match destination.literal {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => self
                .resolver
                .addresses(&destination.origin.host, port)
                .await
                .map_err(|error| NotConnected::Failed(format!("the name could not be looked up: {error}")))?,
        };
        if found.is_empty() {
            return Err(NotConnected::Failed("the name stands for no address".to_owned()));
        }
        found.retain(|address| self.permits(destination, address.ip()));
        if found.is_empty() {
            return Err(NotConnected::Forbidden);
        }
        Ok(found)
    }

    fn permits(&self, destination: &Destination, address: IpAddr) -> bool {
        self.guard.permits(destination, address)
    }

    /// One address after the other, each with its part of the time.
    async fn tcp(&self, addresses: &[SocketAddr]) -> Result<TcpStream, NotConnected> {
        let part = self.within / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = "no connection in time".to_owned();
        for address in addresses {
            match tokio::time::timeout(part, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Only slower without it.
                    stream.set_nodelay(true).ok();
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error.kind().to_string(),
                Err(_) => {}
            }
        }
        Err(NotConnected::Failed(last))
    }
}

/// The authorities of the operating system, and those of the file.
fn tls(ca_file: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, ConfigError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let refuse =
            |reason: String| ConfigError::invalid("webhook.ca_file", format!("{}: {reason}", path.display()));
        let mut any = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))? {
            let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| refuse(error.to_string()))?;
            any = true;
        }
        if !any {
            return Err(refuse("holds no certificate (PEM)".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::invalid("webhook", error.to_string()))?;
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

impl Wire {
    /// Says afterwards whether anything was written; stored false, it forgets what was.
    pub(super) fn written(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.written)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.note(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Wire {
    fn note(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(count)) if *count > 0) {
            self.written.store(true, Ordering::Release);
        }
    }
}
