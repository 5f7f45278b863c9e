//! Whence a request came, for the audit log.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, request::Parts};

use super::{Caller, Peer, Problem};
use crate::audit::Origin;

/// What callers name their requests by.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The longest name of a request that is kept.
const MAX_REQUEST_ID: usize = 128;

/// Addresses of proxies whose `X-Forwarded-For` is believed (`*`: everybody's). In the extensions of every request.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(pub Arc<[String]>);

/// The client's address: the peer's, or the last entry of a trusted proxy's `X-Forwarded-For`, which is what the proxy
/// itself saw.
#[must_use]
pub fn client_address(peer: IpAddr, forwarded: Option<&str>, trusted: &[String]) -> IpAddr {
    if !trusted
        .iter()
        .any(|proxy| proxy == "*" || proxy.parse() == Ok(peer))
    {
        return peer;
    }
    forwarded
        .and_then(|list| list.rsplit(',').next())
        .and_then(|last| last.trim().parse().ok())
        .unwrap_or(peer)
}

/// The request's own name; none where it has none that is short and visible.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    (1..=MAX_REQUEST_ID)
        .contains(&text.len())
        .then(|| text.to_owned())
}

/// Where a request came from, without who sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whence {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// What the caller named it.
    pub request: Option<String>,
}

impl Whence {
    /// The caller's deed will come from here.
    #[must_use]
    pub fn with(self, caller: &Caller) -> Origin {
        Origin::of(caller, self.address, self.request)
    }
}

impl Whence {
    /// Where this request came from.
    #[must_use]
    pub fn of(parts: &Parts) -> Self {
        let forwarded = parts
            .headers
            .get_all(FORWARDED_FOR)
            .iter()
            .next_back()
            .and_then(|value| value.to_str().ok());
        let trusted = parts
            .extensions
            .get::<TrustedProxies>()
            .cloned()
            .unwrap_or_default();
        let peer = parts.extensions.get::<Peer>();
        Self {
            address: peer.map(|peer| client_address(peer.0.ip(), forwarded, &trusted.0)),
            request: request_id(&parts.headers),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Whence {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let Ok(whence) = Whence::from_request_parts(parts, state).await;
        Ok(whence.with(&caller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let trusted = ["10.0.0.1".to_owned()];
        let of = |forwarded, trusted: &[String]| client_address(peer, forwarded, trusted).to_string();
        assert_eq!(of(Some("9.9.9.9"), &[]), "10.0.0.1");
        assert_eq!(of(Some("6.6.6.6, 9.9.9.9"), &trusted), "9.9.9.9");
        assert_eq!(of(Some("unknown"), &trusted), "10.0.0.1");
        assert_eq!(of(Some("9.9.9.9"), &["*".to_owned()]), "9.9.9.9");
    }

    #[test]
    fn a_requests_name_is_short_and_visible() {
        let named = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                REQUEST_ID,
                http::HeaderValue::from_bytes(text.as_bytes()).unwrap(),
            );
            request_id(&headers)
        };
        assert_eq!(named("r-1"), Some("r-1".to_owned()));
        for bad in ["", "né", &"x".repeat(129)] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }
}
