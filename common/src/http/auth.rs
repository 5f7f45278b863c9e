//! Who is calling: `Authorization: Bearer`.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};

use super::Problem;
use crate::token::{Identity, TokenError, Verifier};

/// Put into the requests' extensions by whoever serves them; [`Caller`] reads it there.
#[derive(Debug, Clone)]
pub struct Authenticator(pub Arc<Verifier>);

/// The verified caller of a request. Extracting it is what makes a route need a token.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<Identity>);

impl Caller {
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

/// The token of the `Authorization` header.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let token = bearer(&parts.headers).ok_or(TokenError::Missing)?;
        let verifier = parts
            .extensions
            .get::<Authenticator>()
            .ok_or(TokenError::Invalid)?;
        let caller = Self(verifier.0.verify_again(token)?);
        parts.extensions.insert(caller.clone());
        Ok(caller)
    }
}
