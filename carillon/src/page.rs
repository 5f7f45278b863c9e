//! The page and the browser client, compiled in.

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
    routing::get,
};
use common::http::Problem;
use http::{HeaderValue, StatusCode, header};
use rust_embed::{Embed, EmbeddedFile};

/// The page.
#[derive(Embed)]
#[folder = "../console"]
#[include = "*.html"]
#[include = "*.js"]
#[include = "*.css"]
#[include = "*.svg"]
struct Console;

/// The client library, as browsers load it.
#[derive(Embed)]
#[folder = "../clients/js/src"]
#[include = "*.js"]
struct Client;

/// Nothing from elsewhere runs on or is loaded by the page, and nobody may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
     style-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's routes.
pub(crate) fn routes() -> Router {
    Router::new()
        .route(
            "/",
            get(|request: Request| async move { answer(Console::get("index.html"), &request, "index.html") }),
        )
        .route(
            "/assets/{*path}",
            get(|request: Request| async move {
                let path = request.uri().path().trim_start_matches("/assets/").to_owned();
                answer(Console::get(&path), &request, &path)
            }),
        )
        .route(
            "/client/{*path}",
            get(|request: Request| async move {
                let path = request.uri().path().trim_start_matches("/client/").to_owned();
                answer(Client::get(&path), &request, &path)
            }),
        )
        .method_not_allowed_fallback(dispatcher::api::method_not_allowed)
}

fn answer(file: Option<EmbeddedFile>, request: &Request, path: &str) -> Response {
    let Some(file) = file else {
        return Problem::not_found(format!("there is no file `{path}`")).into_response();
    };
    let hash: String = file.metadata.sha256_hash()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = format!("\"{hash}\"");
    let known = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        file.data.into_owned().into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Asked again each time, answered with 304 while nothing changed: a new version shows at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
