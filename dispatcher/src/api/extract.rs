//! Extractors whose refusals are problem+json.

use axum::{
    body::HttpBody,
    extract::{FromRequest, FromRequestParts, Path, Request},
};
use common::{
    http::{Caller, JsonBody, Problem, parse_query, refuse_nul_in},
    ids::{DeliveryId, Name, NotificationId},
};
use http::request::Parts;
use serde::de::DeserializeOwned;

/// The query string.
#[derive(Debug, Clone)]
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parse_query(&parts.uri).map(Self)
    }
}

/// A JSON object where one is sent. Without a body the default is meant; one that is not understood never is.
#[derive(Debug, Clone)]
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let none = request.body().size_hint().exact() == Some(0) || request.body().is_end_stream();
        if none {
            return Ok(Self(T::default()));
        }
        JsonBody::from_request(request, state)
            .await
            .map(|JsonBody(body, _)| Self(body))
    }
}

/// The one parameter of the path, as text.
#[derive(Debug, Clone)]
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(Problem::not_found("the path is not UTF-8"));
        };
        refuse_nul_in("path", &text)?;
        Ok(Self(text))
    }
}

/// A notification's id in the path; a text that is no id names nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdOf(pub(crate) NotificationId);

impl<S: Send + Sync> FromRequestParts<S> for IdOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Segment(text) = Segment::from_request_parts(parts, state).await?;
        text.parse()
            .map(Self)
            .map_err(|_| super::problems::no_notification())
    }
}

/// A delivery's id in the path; a text that is no id names nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryOf(pub(crate) DeliveryId);

impl<S: Send + Sync> FromRequestParts<S> for DeliveryOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Segment(text) = Segment::from_request_parts(parts, state).await?;
        text.parse()
            .map(Self)
            .map_err(|_| Problem::not_found("there is no such delivery for you"))
    }
}

/// A user's name in the path.
#[derive(Debug, Clone)]
pub(crate) struct UserOf(pub(crate) Name);

impl<S: Send + Sync> FromRequestParts<S> for UserOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Segment(text) = Segment::from_request_parts(parts, state).await?;
        Name::new(&text)
            .map(Self)
            .map_err(|error| Problem::invalid("invalid_name", "user", error.to_string()))
    }
}

macro_rules! scoped {
    ($(#[$doc:meta])* $name:ident, $scope:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $name(pub(crate) Caller);

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
                let caller = Caller::from_request_parts(parts, state).await?;
                caller.require($scope)?;
                Ok(Self(caller))
            }
        }
    };
}

scoped! {
    /// A caller who may create notifications. Refused before the body is looked at.
    Sender, "notifications:write"
}
scoped! {
    /// An operator: sees and changes all of the tenant's notifications.
    Operator, "notifications:admin"
}
scoped! {
    /// A caller who may make templates.
    TemplateWriter, "templates:write"
}
scoped! {
    /// A caller who sees to API keys.
    KeyWriter, "keys:write"
}
scoped! {
    /// A caller who may see, try and change rules.
    RuleWriter, "rules:write"
}
scoped! {
    /// A caller who may change contacts.
    ContactWriter, "contacts:write"
}
/// The caller is an administrator of the platform.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlatformAdmin;

impl<S: Send + Sync> FromRequestParts<S> for PlatformAdmin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.require("platform:admin").map(|()| Self)
    }
}

scoped! {
    /// A caller who may read what was changed, and by whom.
    Auditor, "audit:read"
}
