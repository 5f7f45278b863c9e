//! What a call was made with, to be looked at more than once: a stream outlives what was true when it began.

use http::{Extensions, HeaderMap, request::Parts};

use crate::http::{Caller, Problem};

/// The metadata of a call and what its listener knows of it.
#[derive(Debug, Clone)]
pub struct Credentials(Parts);

impl Credentials {
    /// Of a call's metadata and extensions.
    #[must_use]
    pub fn new(metadata: HeaderMap, extensions: Extensions) -> Self {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.headers = metadata;
        parts.extensions = extensions;
        Self(parts)
    }

    /// Who is calling, as it is now: by the way of HTTP's requests, so that every credential is good for both.
    ///
    /// # Errors
    /// The problem that HTTP's requests are told.
    pub async fn caller(&self) -> Result<Caller, Problem> {
        Caller::now(&self.0).await
    }

    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// What the listener knows of the call.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }
}
