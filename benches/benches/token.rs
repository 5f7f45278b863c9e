//! Verifying a token, as each handshake and each request does.

use std::hint::black_box;

use benches::{EDDSA_KEY, EDDSA_TOKEN, SECRET, hs256_token};
use common::{
    config::{AuthConfig, AuthKey},
    token::Verifier,
};
use criterion::{Criterion, criterion_group, criterion_main};
use secrecy::SecretString;

fn verify(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token/verify");
    let secret = SecretString::from(SECRET.to_owned());
    let hs256 = Verifier::new(&AuthConfig::default(), Some(&secret)).expect("a secret of 32 bytes");
    let token = hs256_token();
    assert!(hs256.verify(&token).is_ok());
    group.bench_function("HS256", |bencher| {
        bencher.iter(|| hs256.verify(black_box(&token)))
    });

    let key = AuthKey {
        algorithm: "EdDSA".to_owned(),
        kid: None,
        pem: EDDSA_KEY.to_owned(),
    };
    let eddsa = Verifier::new(
        &AuthConfig {
            keys: vec![key],
            ..AuthConfig::default()
        },
        None,
    )
    .expect("a public key");
    assert!(eddsa.verify(EDDSA_TOKEN).is_ok());
    group.bench_function("EdDSA", |bencher| {
        bencher.iter(|| eddsa.verify(black_box(EDDSA_TOKEN)))
    });

    group.bench_function("refused", |bencher| {
        bencher.iter(|| hs256.verify(black_box(EDDSA_TOKEN)))
    });
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
