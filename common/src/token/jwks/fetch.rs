//! One GET of a set of keys: no redirects, a bounded body, a deadline.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use url::Url;

/// Largest set.
const MAX_BYTES: usize = 256 * 1024;

/// Time for all of it.
const DEADLINE: Duration = Duration::from_secs(5);

/// For how long a set is good at the least, at the most, and where nothing is said.
const MIN_AGE: Duration = Duration::from_mins(1);
const MAX_AGE: Duration = Duration::from_hours(24);
const DEFAULT_AGE: Duration = Duration::from_mins(10);

/// A set as it came, and how long it is good.
pub(super) struct Fetched {
    pub(super) text: Bytes,
    pub(super) age: Duration,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer in time")]
    Late,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("the answer cannot be read: {0}")]
    Body(String),
    #[error("the URL cannot be used: {0}")]
    Url(String),
    #[error("TLS: {0}")]
    Tls(String),
}

/// Whether this URL may be asked: by TLS, or on this machine.
pub(in crate::token) fn usable(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => return Err("it names no host".to_owned()),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        _ => Err("it has to begin with https:// (http:// on a loopback address only)".to_owned()),
    }
}

pub(super) async fn fetch(url: &Url) -> Result<Fetched, FetchError> {
    timeout(DEADLINE, get(url)).await.map_err(|_| FetchError::Late)?
}

async fn get(url: &Url) -> Result<Fetched, FetchError> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    // An IPv6 address stands in brackets in a URL only.
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    if url.scheme() == "http" {
        return exchange(url, stream).await;
    }
    let name = rustls::pki_types::ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| FetchError::Url(error.to_string()))?;
    let connector = tokio_rustls::TlsConnector::from(tls()?);
    exchange(url, connector.connect(name, stream).await?).await
}

/// What the system believes.
fn tls() -> Result<Arc<rustls::ClientConfig>, FetchError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Tls(error.to_string()))?;
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

async fn exchange<S>(url: &Url, stream: S) -> Result<Fetched, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender, or with the deadline.
    let connection = tokio::spawn(connection);
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = Request::get(target)
        .header(
            header::HOST,
            &url[url::Position::BeforeHost..url::Position::AfterPort],
        )
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(
            header::USER_AGENT,
            concat!("carillon/", env!("CARGO_PKG_VERSION")),
        )
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Url(error.to_string()))?;
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let age = age(answer.headers());
    let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
    let text = body
        .map_err(|error| FetchError::Body(error.to_string()))?
        .to_bytes();
    connection.abort();
    Ok(Fetched { text, age })
}

/// For how long a set is good, by `Cache-Control` (RFC 9111 section 5.2.2).
fn age(headers: &HeaderMap) -> Duration {
    let directives = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase());
    let mut age = DEFAULT_AGE;
    for directive in directives {
        if directive == "no-store" || directive == "no-cache" {
            return MIN_AGE;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            let seconds = seconds.trim_matches('"').parse();
            age = seconds.map_or(MIN_AGE, Duration::from_secs);
        }
    }
    age.clamp(MIN_AGE, MAX_AGE)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn sets_are_good_from_a_minute_to_a_day() {
        for (said, seconds) in [
            ("", 600),
            ("public", 600),
            ("public, max-age=300", 300),
            ("Max-Age=\"120\"", 120),
            ("max-age=1", 60),
            ("max-age=9999999999", 86_400),
            ("max-age=soon", 60),
            ("max-age=300, no-cache", 60),
            ("no-store", 60),
        ] {
            let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static(said))]);
            assert_eq!(age(&headers).as_secs(), seconds, "{said}");
        }
        assert_eq!(age(&HeaderMap::new()).as_secs(), 600);
    }

    #[test]
    fn only_tls_or_this_machine_is_asked() {
        for good in [
            "https://id.example.com/keys",
            "http://127.0.0.1:8080/k",
            "http://[::1]/k",
            "http://localhost/k",
        ] {
            assert!(usable(good).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example.com/keys",
            "http://127.0.0.1.evil.net/",
            "ftp://127.0.0.1/",
            "keys",
        ] {
            assert!(usable(bad).is_err(), "{bad}");
        }
    }
}
