//! Who is calling: `Authorization: Bearer`, or `X-API-Key`.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, header, request::Parts};

use super::{Problem, Whence};
use crate::{
    credential::Credentials,
    token::{Identity, TokenError},
};

/// Where an API key may stand, for clients that keep `Authorization` for something else.
pub const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// Put into the requests' extensions by whoever serves them; [`Caller`] reads it there.
#[derive(Debug, Clone)]
pub struct Authenticator(pub Arc<Credentials>);

/// The verified caller of a request. Extracting it is what makes a route need a token or an API key.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<Identity>);

impl Caller {
    /// Who is calling, as it is now and whatever was found out before.
    ///
    /// # Errors
    /// 401, 429 or 503.
    pub async fn now(parts: &Parts) -> Result<Self, Problem> {
        find(parts).await
    }

    /// Requires a scope.
    ///
    /// # Errors
    /// 403 with the code `scope_missing`.
    pub fn require(&self, scope: &str) -> Result<(), Problem> {
        if self.0.has_scope(scope) {
            Ok(())
        } else {
            Err(Problem::scope_missing(scope))
        }
    }
}

impl std::ops::Deref for Caller {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}

/// The token or API key of the `Authorization` header, or without one the key of `X-API-Key`.
#[must_use]
pub fn shown(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name)?.to_str().ok();
    text(header::AUTHORIZATION)
        .and_then(bearer)
        .or_else(|| text(API_KEY_HEADER).map(str::trim))
}

/// What an `Authorization` header of the scheme `Bearer` carries.
#[must_use]
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What was found out about a request's caller, for everything that asks within the request.
#[derive(Debug, Clone)]
struct Found(Result<Caller, Problem>);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        if let Some(Found(found)) = parts.extensions.get() {
            return found.clone();
        }
        let found = find(parts).await;
        parts.extensions.insert(Found(found.clone()));
        found
    }
}

async fn find(parts: &Parts) -> Result<Caller, Problem> {
    let shown = shown(&parts.headers).ok_or(TokenError::Missing)?;
    let Authenticator(credentials) = parts
        .extensions
        .get::<Authenticator>()
        .ok_or(TokenError::Invalid)?;
    let from = Whence::of(parts)
        .address
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Ok(Caller(credentials.verify(shown, from).await?))
}
