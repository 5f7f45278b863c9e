//! What comes in: clients' frames and commands, tokens, publishes.

use axum::{Extension, Router, body::Body};
use common::{
    config::{AuthConfig, AuthKey},
    credential::Credentials,
    http::Authenticator,
    protocol::Command,
    token::{NewToken, Verifier, mint},
};
use http::{Method, Request, StatusCode, header};
use hub::ws::Parser;
use secrecy::SecretString;
use std::{hint::black_box, sync::Arc};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use super::{Row, Step, Work};
use crate::{EDDSA_KEY, EDDSA_TOKEN, SECRET, hs256_token, masked_text, node::hub, rng};

/// Publishes of a batch.
const BATCH: u64 = 100;

pub(super) const PIECES: [Row; 10] = [
    ("input/frame of 128 bytes", 1, |_| frame(128)),
    ("input/frame of 64 KiB, a KiB", 64, |_| frame(64 * 1024 - 14)),
    ("input/command ack", 1, |_| {
        command(r#"{"type":"ack","ids":["0190b6a2-7a3c-7c4e-8f10-5d3c2b1a0f9e"]}"#)
    }),
    ("input/command subscribe", 1, |_| {
        command(r#"{"type":"subscribe","topic":"orders.eu.42"}"#)
    }),
    ("input/command resume, six topics", 1, |_| command(RESUME)),
    ("input/token HS256", 1, |_| hs256()),
    ("input/token EdDSA", 1, |_| eddsa()),
    ("input/token refused", 1, |_| refused()),
    ("input/publish request", 1, |runtime| {
        publish(runtime, "/api/v1/publish", PUBLISH.to_owned())
    }),
    ("input/publish batch, a message", BATCH, |runtime| {
        let messages = vec![PUBLISH; BATCH as usize].join(",");
        publish(
            runtime,
            "/api/v1/publish/batch",
            format!(r#"{{"messages":[{messages}]}}"#),
        )
    }),
];

const RESUME: &str = concat!(
    r#"{"type":"resume","positions":{"user":"abcdef0123-12-0badcafe","role:manager":"abcdef0123-7-0badcafe","#,
    r#""role:staff":"abcdef0123-900-0badcafe","store:12":"abcdef0123-33-0badcafe","tenant":"abcdef0123-5-0badcafe","#,
    r#""everyone":"abcdef0123-1-0badcafe"}}"#
);

const PUBLISH: &str = concat!(
    r#"{"to":{"all_of":[{"role":"manager"},{"store":"12"}],"except":{"users":["u1","u2"]}},"type":"order.changed","#,
    r#""data":{"order":"A-1001","state":"paid","lines":[{"sku":"4711","count":2},{"sku":"4712","count":1}],"#,
    r#""total":"129.90"},"ttl_ms":60000,"history":false}"#
);

fn frame(len: usize) -> Work {
    let frame = masked_text(&mut rng(), len);
    let mut parser = Parser::new(64 * 1024);
    let mut bytes = Vec::new();
    Box::new(move |step| match step {
        // Frames are unmasked in place.
        Step::Prepare => bytes.clone_from(&frame),
        Step::Run => parser
            .feed(&mut bytes, |event| {
                black_box(event);
            })
            .expect("a valid frame"),
    })
}

fn command(text: &'static str) -> Work {
    assert!(Command::parse(text).is_ok(), "{text}");
    Box::new(move |step| {
        if step == Step::Run {
            drop(black_box(Command::parse(black_box(text))));
        }
    })
}

fn verifier() -> Verifier {
    let secret = SecretString::from(SECRET.to_owned());
    let config = AuthConfig {
        keys: vec![AuthKey {
            algorithm: "EdDSA".to_owned(),
            kid: None,
            pem: EDDSA_KEY.to_owned(),
        }],
        ..AuthConfig::default()
    };
    Verifier::new(&config, Some(&secret)).expect("a secret of 32 bytes and a public key")
}

fn verify(verifier: Verifier, token: String, valid: bool) -> Work {
    assert_eq!(verifier.verify(&token).is_ok(), valid);
    Box::new(move |step| {
        if step == Step::Run {
            drop(black_box(verifier.verify(black_box(&token))));
        }
    })
}

fn hs256() -> Work {
    verify(verifier(), hs256_token(), true)
}

fn eddsa() -> Work {
    verify(verifier(), EDDSA_TOKEN.to_owned(), true)
}

/// A signature of nobody's.
fn refused() -> Work {
    let mut token = hs256_token();
    let last = if token.pop() == Some('A') { 'E' } else { 'A' };
    token.push(last);
    verify(verifier(), token, false)
}

/// A whole request to the publish API, without the socket: token, body, routes, bus. Nobody is there to get it.
fn publish(runtime: &Runtime, path: &'static str, body: String) -> Work {
    let handle = runtime.handle().clone();
    let guard = handle.enter();
    let routes: Router = hub::http::internal(&hub()).split_for_parts().0;
    drop(guard);
    let router = routes.layer(Extension(Authenticator(Arc::new(
        Credentials::tokens(verifier()),
    ))));
    let new = NewToken {
        user: "shop".to_owned(),
        tenant: Some("t1".to_owned()),
        scopes: vec!["publish".to_owned(), "service".to_owned()],
        ttl_seconds: 24 * 3600,
        ..NewToken::default()
    };
    let token = mint(&new, &SecretString::from(SECRET.to_owned())).expect("fixed claims can be signed");
    let mut next = None;
    Box::new(move |step| match step {
        Step::Prepare => {
            let request = Request::builder()
                .method(Method::POST)
                .uri(path)
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.clone()))
                .expect("a valid request");
            next = Some((router.clone(), request));
        }
        Step::Run => {
            let Some((router, request)) = next.take() else {
                return;
            };
            let response = handle
                .block_on(router.oneshot(request))
                .expect("routers do not fail");
            assert_eq!(response.status(), StatusCode::OK);
        }
    })
}
