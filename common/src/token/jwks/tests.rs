//! Sets of keys: which of them count, when they are fetched, and what goes on while they cannot be.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto, encode, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    config::Span,
    credential::{Credentials, Denied},
    token::{TokenError, Verifier},
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn private(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(include_bytes!("../testdata/rs256.pem")),
        Algorithm::ES256 => EncodingKey::from_ec_pem(include_bytes!("../testdata/es256.pem")),
        _ => EncodingKey::from_ed_pem(include_bytes!("../testdata/eddsa.pem")),
    }
    .unwrap()
}

/// The public half of a test key, by this name.
fn public(algorithm: Algorithm, kid: &str) -> Value {
    let mut jwk = Jwk::from_encoding_key(&private(algorithm), algorithm).unwrap();
    jwk.common.key_id = Some(kid.to_owned());
    serde_json::to_value(jwk).unwrap()
}

fn token(algorithm: Algorithm, kid: Option<&str>) -> String {
    let header = Header {
        kid: kid.map(str::to_owned),
        ..Header::new(algorithm)
    };
    let exp = jiff::Timestamp::now().as_second() + 600;
    let claims =
        json!({ "sub": "u", "tenant_id": "t", "iss": "issuer", "aud": ["carillon", "other"], "exp": exp });
    encode(&header, &claims, &private(algorithm)).unwrap()
}

/// An issuer on this machine.
#[derive(Clone)]
struct Issuer {
    url: String,
    /// Status line and body of the answers.
    answer: Arc<Mutex<(&'static str, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            url: format!("http://{}/keys?v=1", listener.local_addr().unwrap()),
            answer: Arc::new(Mutex::new(("200 OK", json!({ "keys": keys }).to_string()))),
            asked: Arc::default(),
        };
        let serving = issuer.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"GET /keys?v=1 HTTP/1.1\r\n"));
                serving.asked.fetch_add(1, Ordering::SeqCst);
                let (status, body) = serving.answer.lock().unwrap().clone();
                let length = body.len();
                let text = format!(
                    "HTTP/1.1 {status}\r\ncache-control: max-age=3600\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                // Who has read enough goes away.
                stream.write_all(text.as_bytes()).await.ok();
            }
        });
        issuer
    }

    fn show(&self, keys: &[Value]) {
        *self.answer.lock().unwrap() = ("200 OK", json!({ "keys": keys }).to_string());
    }

    fn fail(&self) {
        *self.answer.lock().unwrap() = ("503 Service Unavailable", String::new());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn credentials(&self, cool_down: Duration) -> Credentials {
        let config = AuthConfig {
            jwks_url: Some(self.url.clone()),
            jwks_cool_down: Span(cool_down),
            issuer: Some("issuer".to_owned()),
            audience: Some("carillon".to_owned()),
            ..AuthConfig::default()
        };
        config.validate().unwrap();
        Credentials::tokens(Verifier::new(&config, None).unwrap())
    }
}

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_secs(1);

async fn verify(credentials: &Credentials, token: &str) -> Result<(), Denied> {
    credentials.verify(token, HERE).await.map(drop)
}

const INVALID: Result<(), Denied> = Err(Denied::Refused(TokenError::Invalid));

#[tokio::test]
async fn all_algorithms_are_believed_by_their_keys_and_one_fetch_does_for_many() {
    let all = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let keys = all.map(|algorithm| public(algorithm, &format!("{algorithm:?}")));
    let issuer = Issuer::start(&keys).await;
    let credentials = Arc::new(issuer.credentials(LONG));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60 {
        let algorithm = all[number % 3];
        let kid = format!("{algorithm:?}");
        // One that names no key is of the only one that fits.
        let token = token(algorithm, (number % 2 == 0).then_some(&*kid));
        let credentials = Arc::clone(&credentials);
        tasks.spawn(async move { verify(&credentials, &token).await });
    }
    while let Some(verified) = tasks.join_next().await {
        assert_eq!(verified.unwrap(), Ok(()));
    }
    assert_eq!(issuer.asked(), 1);
    // By another's name, or another's algorithm: nothing.
    assert_eq!(
        verify(&credentials, &token(Algorithm::RS256, Some("ES256"))).await,
        INVALID
    );
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_new_key_is_fetched_once_and_an_old_one_ends_with_its_set() {
    let old = public(Algorithm::EdDSA, "old");
    let issuer = Issuer::start(std::slice::from_ref(&old)).await;
    let credentials = issuer.credentials(SHORT);
    let of_old = token(Algorithm::EdDSA, Some("old"));
    assert_eq!(verify(&credentials, &of_old).await, Ok(()));
    // Known: no wait, and no fetch.
    assert!(matches!(credentials.known(&of_old, HERE), Some(Ok(_))));
    issuer.show(&[public(Algorithm::ES256, "new")]);
    let of_new = token(Algorithm::ES256, Some("new"));
    crate::patience::eventually("the cool-down is over", Duration::from_secs(30), async || {
        verify(&credentials, &of_new).await.ok()
    })
    .await;
    assert_eq!(issuer.asked(), 2);
    // What the old key had verified is not remembered beyond it.
    assert_eq!(verify(&credentials, &of_old).await, INVALID);
}

#[tokio::test]
async fn keys_that_there_are_not_are_asked_for_once() {
    let issuer = Issuer::start(&[public(Algorithm::EdDSA, "a")]).await;
    let credentials = issuer.credentials(LONG);
    for number in 0..50 {
        let forged = token(Algorithm::EdDSA, Some(&format!("forged {number}")));
        assert_eq!(verify(&credentials, &forged).await, INVALID);
    }
    assert_eq!(issuer.asked(), 1);
    assert_eq!(
        verify(&credentials, &token(Algorithm::EdDSA, Some("a"))).await,
        Ok(())
    );
    // An algorithm that is none of theirs has nothing fetched.
    let hmac = encode(
        &Header::default(),
        &json!({}),
        &EncodingKey::from_secret(&[1; 32]),
    )
    .unwrap();
    assert_eq!(verify(&credentials, &hmac).await, INVALID);
}

#[tokio::test]
async fn one_that_was_looked_for_in_vain_is_not_looked_for_again() {
    let issuer = Issuer::start(&[public(Algorithm::EdDSA, "a")]).await;
    let config = AuthConfig {
        jwks_cool_down: Span(Duration::ZERO),
        ..AuthConfig::default()
    };
    let jwks = Jwks::new(issuer.url.parse().unwrap(), vec![Algorithm::EdDSA], &config);
    assert_eq!(jwks.wanted(Algorithm::EdDSA, Some("x")), Wanted::Fetch);
    assert!(jwks.fetch_for(Some("x")).await);
    assert_eq!(jwks.wanted(Algorithm::EdDSA, Some("x")), Wanted::No);
    assert_eq!(jwks.wanted(Algorithm::EdDSA, Some("y")), Wanted::Fetch);
    assert_eq!(
        jwks.wanted(Algorithm::EdDSA, Some(&"y".repeat(MAX_KID + 1))),
        Wanted::No
    );
    assert_eq!(jwks.wanted(Algorithm::RS256, Some("y")), Wanted::No);
    for number in 0..2 * MAX_NEGATIVE {
        jwks.remember_negative(&number.to_string());
    }
    assert_eq!(jwks.state().negative.len(), MAX_NEGATIVE);
}

#[tokio::test]
async fn while_the_issuer_is_away_the_last_set_goes_on() {
    let issuer = Issuer::start(&[public(Algorithm::EdDSA, "a")]).await;
    issuer.fail();
    let away = issuer.credentials(LONG);
    let good = token(Algorithm::EdDSA, Some("a"));
    assert!(matches!(verify(&away, &good).await, Err(Denied::Unavailable(_))));
    // Nothing was ever known; who comes a moment later does not have it asked again.
    assert!(matches!(verify(&away, &good).await, Err(Denied::Unavailable(_))));
    assert_eq!(issuer.asked(), 1);

    issuer.show(&[public(Algorithm::EdDSA, "a")]);
    let credentials = issuer.credentials(SHORT);
    assert_eq!(verify(&credentials, &good).await, Ok(()));
    for (status, body) in [
        ("503 Service Unavailable", ""),
        ("200 OK", "not json"),
        ("200 OK", r#"{"keys":[]}"#),
        ("302 Found", ""),
    ] {
        *issuer.answer.lock().unwrap() = (status, body.to_owned());
        let asked = issuer.asked();
        let mut number = 0;
        crate::patience::eventually("it is asked", Duration::from_secs(30), async || {
            number += 1;
            let other = token(Algorithm::EdDSA, Some(&format!("{asked} {number}")));
            assert_eq!(verify(&credentials, &other).await, INVALID);
            (issuer.asked() > asked).then_some(())
        })
        .await;
        assert_eq!(
            verify(&credentials, &token(Algorithm::EdDSA, Some("a"))).await,
            Ok(()),
            "{status}"
        );
    }
}

#[test]
fn only_keys_that_sign_and_whose_members_agree_count() {
    let good = public(Algorithm::ES256, "k");
    let with = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    let short_rsa = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB" });
    let oct = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode([1; 32]) });
    let read = |keys: &[Value], algorithms: &[Algorithm]| {
        let config = AuthConfig::default();
        let text = json!({ "keys": keys }).to_string();
        let make = |algorithm, id, key| Key::new(algorithm, id, key, &config, None);
        KeySet::read(text.as_bytes(), algorithms, make)
            .unwrap()
            .keys
            .len()
    };
    let all = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    for key in [
        &good,
        &with("use", json!("sig")),
        &with("key_ops", json!(["verify"])),
        &with("ext", json!(true)),
    ] {
        assert_eq!(read(std::slice::from_ref(key), &all), 1, "{key}");
        assert_eq!(read(std::slice::from_ref(key), &[Algorithm::RS256]), 0);
    }
    for key in [
        with("use", json!("enc")),
        with("key_ops", json!(["encrypt"])),
        with("alg", json!("RS256")),
        with("crv", json!("P-384")),
        with("kty", json!("OKP")),
        with("x", json!("AAAA")),
        with("y", Value::Null),
        short_rsa,
        oct,
        json!("k"),
        json!({}),
    ] {
        assert_eq!(read(std::slice::from_ref(&key), &all), 0, "{key}");
        assert_eq!(read(&[key, good.clone()], &all), 1, "the others count");
    }
    let make = |algorithm, id, key| Key::new(algorithm, id, key, &AuthConfig::default(), None);
    for none in ["", "[]", "{}", r#"{"keys":7}"#] {
        assert!(KeySet::read(none.as_bytes(), &all, make).is_none(), "{none}");
    }
    // Without a name, two that fit are nobody's.
    let text = json!({ "keys": [good, with("kid", json!("other"))] }).to_string();
    let set = KeySet::read(text.as_bytes(), &all, make).unwrap();
    assert!(set.fitting(Algorithm::ES256, None).is_empty());
    assert_eq!(set.fitting(Algorithm::ES256, Some("other")).len(), 1);
}

#[test]
fn the_examples_of_the_standards_verify() {
    let verifies = |jwk: Value, algorithm, token: &str| {
        let text = json!({ "keys": [jwk] }).to_string();
        let make = |algorithm, id, key| Key::new(algorithm, id, key, &AuthConfig::default(), None);
        let set = KeySet::read(text.as_bytes(), &[algorithm], make).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        crypto::verify(signature, message.as_bytes(), &set.keys[0].key, algorithm).unwrap()
    };
    // RFC 7515 appendix A.3.
    let es256 = json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    assert!(verifies(es256.clone(), Algorithm::ES256, token));
    assert!(!verifies(es256, Algorithm::ES256, &token.replace("Q.Dt", "A.Dt")));
    // RFC 8037 appendix A.4.
    let ed25519 =
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert!(verifies(ed25519, Algorithm::EdDSA, token));
    // RFC 7515 appendix A.1: what was received is verified, line ends and all.
    let secret = URL_SAFE_NO_PAD
        .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
        .unwrap();
    let message = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let key = jsonwebtoken::DecodingKey::from_secret(&secret);
    assert!(
        crypto::verify(
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            message,
            &key,
            Algorithm::HS256
        )
        .unwrap()
    );
}
