//! Whose tokens are believed, and whose are not.

use super::*;
use crate::token::{NewToken, mint};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

fn verifier(config: &AuthConfig) -> Verifier {
    Verifier::new(config, Some(&secret(SECRET))).unwrap()
}

fn config() -> AuthConfig {
    AuthConfig {
        default_tenant: Some(TenantId::new("default").unwrap()),
        ..AuthConfig::default()
    }
}

fn token(change: impl FnOnce(&mut NewToken)) -> String {
    let mut new = NewToken {
        user: "u1".to_owned(),
        ..NewToken::default()
    };
    change(&mut new);
    mint(&new, &secret(SECRET)).unwrap()
}

#[test]
fn a_minted_token_verifies() {
    let token = token(|new| {
        new.tenant = Some("t1".to_owned());
        new.roles = vec!["manager".to_owned()];
        new.stores = vec!["12".to_owned()];
        new.scopes = vec!["publish metrics".to_owned()];
    });
    let identity = verifier(&config()).verify(&token).unwrap();
    assert_eq!(identity.tenant.as_str(), "t1");
    assert!(identity.has_scope("publish") && identity.has_scope("metrics") && !identity.has_scope("control"));
    let keys: Vec<_> = identity
        .keys()
        .iter()
        .map(|key| key.as_str().to_owned())
        .collect();
    assert_eq!(keys, ["t1:u:u1", "t1:s:12", "t1:r:manager", "t1:a", ":e"]);
}

#[test]
fn what_was_verified_is_known_again_until_it_ends() {
    let now = jiff::Timestamp::now().as_second();
    let new_secret = secret(&SECRET.replace('0', "n"));
    let previous = |until: i64| {
        let config = AuthConfig {
            previous_secret: Some(secret(SECRET)),
            previous_secret_until: Some(jiff::Timestamp::from_second(until).unwrap()),
            ..config()
        };
        Verifier::new(&config, Some(&new_secret)).unwrap()
    };
    let good = token(|_| {});
    let first = previous(now + 60);
    let identity = first.verify_again(&good).unwrap();
    assert!(Arc::ptr_eq(&identity, &first.verify_again(&good).unwrap()));
    assert_eq!(*identity, first.verify(&good).unwrap());
    // The entry ends with the key, before the token does.
    assert_eq!(first.check(&good, now, None).unwrap().1, now + 60);
    let second = verifier(&config());
    assert_eq!(
        second.check(&good, now, None).unwrap().1,
        identity.expires_at + LEEWAY_SECONDS
    );
    // Another verifier, as after a change of keys, knows nothing of it.
    assert_eq!(
        previous(now - 60).verify_again(&good).unwrap_err(),
        TokenError::Invalid
    );
    // What is refused is refused each time.
    for _ in 0..2 {
        assert_eq!(first.verify_again("x.y.z").unwrap_err(), TokenError::Invalid);
        let expired = token(|new| new.ttl_seconds = -60);
        assert_eq!(first.verify_again(&expired).unwrap_err(), TokenError::Expired);
    }
}

#[test]
fn bad_tokens_are_told_apart() {
    let verifier = verifier(&config());
    let foreign = mint(
        &NewToken {
            user: "u".into(),
            ..NewToken::default()
        },
        &secret(&SECRET.replace('0', "x")),
    )
    .unwrap();
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSIsImV4cCI6OTk5OTk5OTk5OX0.";
    let good = token(|_| {});
    // A letter inside the signature: the last one has bits that mean nothing.
    let (head, tail) = good.split_at(good.len() - 10);
    let tampered = format!(
        "{head}{}{}",
        if tail.starts_with('A') { 'B' } else { 'A' },
        &tail[1..]
    );
    for (token, error) in [
        (String::new(), TokenError::Missing),
        ("x.y.z".to_owned(), TokenError::Invalid),
        (none.to_owned(), TokenError::Invalid),
        (foreign, TokenError::Invalid),
        (tampered, TokenError::Invalid),
        (token(|new| new.ttl_seconds = -60), TokenError::Expired),
        (token(|new| new.user = "u".repeat(257)), TokenError::Claim("sub")),
        (
            token(|new| new.tenant = Some("a:b".to_owned())),
            TokenError::Claim("tenant_id"),
        ),
    ] {
        assert_eq!(verifier.verify(&token).unwrap_err(), error, "{token}");
    }
}

#[test]
fn critical_extensions_are_refused_and_dates_may_have_fractions() {
    use jsonwebtoken::{EncodingKey, Header, encode};
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let exp = jiff::Timestamp::now().as_second() as f64 + 60.5;
    let claims = serde_json::json!({ "sub": "u", "exp": exp });
    let plain = encode(&Header::default(), &claims, &key).unwrap();
    assert!(verifier(&config()).verify(&plain).is_ok());

    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT","crit":["x"],"x":1}"#);
    let body = plain.split('.').nth(1).unwrap();
    let signed = format!("{header}.{body}");
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    let refused = verifier(&config()).verify(&format!("{signed}.{signature}"));
    assert_eq!(refused.unwrap_err(), TokenError::Invalid);
}

#[test]
fn s4_10_a_role_gives_scopes_and_the_tenants_own_roles_give_none() {
    use jsonwebtoken::{EncodingKey, Header, encode};
    let signed = |more: serde_json::Value| {
        let mut claims = serde_json::json!({ "sub": "u", "exp": jiff::Timestamp::now().as_second() + 60 });
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        verifier(&config()).verify(&encode(&Header::default(), &claims, &key).unwrap())
    };
    let auditor = signed(serde_json::json!({ "carillon_role": "auditor", "scope": "metrics" })).unwrap();
    assert!(auditor.has_scope("audit:read") && auditor.has_scope("metrics") && !auditor.has_scope("control"));
    let own = signed(serde_json::json!({ "roles": ["admin", "auditor"], "role": "operator" })).unwrap();
    assert!(own.scopes.is_empty() && own.roles.len() == 3);
    let unknown = signed(serde_json::json!({ "carillon_role": "root" }));
    assert_eq!(unknown.unwrap_err(), TokenError::Claim("carillon_role"));
    let key = signed(serde_json::json!({ "sub": "key:0123456789012345678901" }));
    assert_eq!(key.unwrap_err(), TokenError::Claim("sub"));
}

#[test]
fn without_a_default_the_tenant_is_needed() {
    let verifier = verifier(&AuthConfig::default());
    assert_eq!(verifier.verify(&token(|_| {})).unwrap_err(), TokenError::NoTenant);
}

#[test]
fn a_previous_secret_ends_on_its_date() {
    let now = jiff::Timestamp::now().as_second();
    let new_secret = secret(&SECRET.replace('0', "n"));
    for (until, accepted) in [(now + 60, true), (now - 60, false)] {
        let config = AuthConfig {
            previous_secret: Some(secret(SECRET)),
            previous_secret_until: Some(jiff::Timestamp::from_second(until).unwrap()),
            ..config()
        };
        let verifier = Verifier::new(&config, Some(&new_secret)).unwrap();
        assert_eq!(verifier.verify(&token(|_| {})).is_ok(), accepted);
    }
}

#[test]
fn every_algorithm_verifies_with_its_own_key_and_no_other() {
    use jsonwebtoken::{EncodingKey, Header, encode};
    let pairs = [
        (
            Algorithm::RS256,
            "RS256",
            include_str!("testdata/rs256.pub.pem"),
            EncodingKey::from_rsa_pem(include_bytes!("testdata/rs256.pem")).unwrap(),
        ),
        (
            Algorithm::ES256,
            "ES256",
            include_str!("testdata/es256.pub.pem"),
            EncodingKey::from_ec_pem(include_bytes!("testdata/es256.pem")).unwrap(),
        ),
        (
            Algorithm::EdDSA,
            "EdDSA",
            include_str!("testdata/eddsa.pub.pem"),
            EncodingKey::from_ed_pem(include_bytes!("testdata/eddsa.pem")).unwrap(),
        ),
    ];
    let verifiers = pairs.each_ref().map(|(_, name, public, _)| {
        let key = crate::config::AuthKey {
            algorithm: (*name).to_owned(),
            kid: Some((*name).to_owned()),
            pem: (*public).to_owned(),
        };
        Verifier::new(
            &AuthConfig {
                keys: vec![key],
                ..config()
            },
            None,
        )
        .unwrap()
    });
    let claims = serde_json::json!({ "sub": "u", "exp": jiff::Timestamp::now().as_second() + 60 });
    for (signer, (algorithm, name, _, private)) in pairs.iter().enumerate() {
        let token = |kid: Option<&str>| {
            let header = Header {
                kid: kid.map(str::to_owned),
                ..Header::new(*algorithm)
            };
            encode(&header, &claims, private).unwrap()
        };
        for (number, verifier) in verifiers.iter().enumerate() {
            assert_eq!(
                verifier.verify(&token(Some(name))).is_ok(),
                number == signer,
                "{name} {number}"
            );
        }
        assert_eq!(
            verifiers[signer].verify(&token(None)).unwrap_err(),
            TokenError::Invalid
        );
        assert_eq!(
            verifiers[signer].verify(&token(Some("x"))).unwrap_err(),
            TokenError::Invalid
        );
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    // The classic confusion: sign with HS256 and the public key's text as the secret.
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let key = crate::config::AuthKey {
        algorithm: "EdDSA".into(),
        kid: None,
        pem: pem.into(),
    };
    let verifier = Verifier::new(
        &AuthConfig {
            keys: vec![key],
            ..config()
        },
        None,
    )
    .unwrap();
    let forged = mint(
        &NewToken {
            user: "u".into(),
            ..NewToken::default()
        },
        &secret(pem),
    )
    .unwrap();
    assert_eq!(verifier.verify(&forged).unwrap_err(), TokenError::Invalid);
}

#[test]
fn a_short_secret_is_refused() {
    assert!(matches!(
        Verifier::new(&config(), Some(&secret("short"))),
        Err(KeyError::Short)
    ));
    assert!(matches!(Verifier::new(&config(), None), Err(KeyError::None)));
}
