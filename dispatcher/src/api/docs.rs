//! The contract as a document and a page that needs no internet.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, header};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

/// What the document says beside its routes.
#[derive(Debug, OpenApi)]
#[openapi(
    info(title = "Carillon", description = "Notifications: accepted once, stored, and seen through to every person and device.", license(name = "Apache-2.0")),
    modifiers(&Bearer),
    security(("bearer" = []), ("api_key" = [])),
    tags(
        (name = "notifications", description = "Create, and see what became of it"),
        (name = "schedules", description = "Notifications that are made again and again"),
        (name = "rules", description = "From events of other systems to notifications"),
        (name = "inbox", description = "What the caller sees"),
        (name = "queue", description = "What operators see of deliveries that wait or were given up, and do about it"),
        (name = "templates", description = "Texts with variables"),
        (name = "contacts", description = "Where users can be reached"),
        (name = "audit", description = "Who changed what"),
        (name = "keys", description = "What services call with"),
        (name = "settings", description = "What can be changed while processes run"),
        (name = "health", description = "Whether it works")
    )
)]
pub(crate) struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let header =
            ApiKeyValue::with_description("X-API-Key", "An API key; it may also stand where a token does");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
}

/// The page that shows the document.
pub(crate) async fn page() -> Response {
    let mut response = Html(include_str!("docs.html")).into_response();
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'",
        ),
    );
    response
}

/// The document as it is answered.
pub(crate) fn contract(json: String) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        json,
    )
        .into_response()
}
