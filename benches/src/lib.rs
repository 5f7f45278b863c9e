//! Inputs of the benches: made from fixed seeds, the same in every run.
//!
//! `make bench` runs them all, `make bench ARGS="--bench pieces -- token"` some of them.

use bytes::Bytes;
use common::{
    bus::Publication,
    ids::{MessageId, Name, TenantId},
    message::{FrameKind, Header, Message, Position},
    token::{NewToken, mint},
    topic::TopicKey,
};
use secrecy::SecretString;

pub mod node;
pub mod piece;

/// An HS256 secret of the shortest length that is allowed.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The public key of [`EDDSA_TOKEN`]. Nobody has the private one any more.
pub const EDDSA_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAUzcGPsj9kbeeTMN0DbWv0B66Ly4yTFDcnrWzgct7UE4=
-----END PUBLIC KEY-----
";

/// A token of an ordinary user, valid until 2100.
pub const EDDSA_TOKEN: &str = concat!(
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.",
    "eyJzdWIiOiJ1MSIsInRlbmFudF9pZCI6InQxIiwicm9sZXMiOlsibWFuYWdlciIsInN0YWZmIl0sInN0b3JlX2lkcyI6WyIxMiJdLCJzY29w",
    "ZSI6Im5vdGlmaWNhdGlvbnM6d3JpdGUiLCJleHAiOjQxMDI0NDQ4MDB9.",
    "IS_UWJpffKdrIlib_vFfgc6RCYCjN7DJDYf5QoZQ58xq1bQPDPp8cLoVfZuJHM-enazDros4fMz8-HtndSJKDg"
);

/// The one source of chance.
#[must_use]
pub fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(20_261_120)
}

/// The same claims as [`EDDSA_TOKEN`], signed with [`SECRET`].
///
/// # Panics
/// Never: the claims are fixed.
#[must_use]
pub fn hs256_token() -> String {
    let new = NewToken {
        user: "u1".to_owned(),
        tenant: Some("t1".to_owned()),
        roles: vec!["manager".to_owned(), "staff".to_owned()],
        stores: vec!["12".to_owned()],
        scopes: vec!["notifications:write".to_owned()],
        ttl_seconds: 24 * 3600,
        ..NewToken::default()
    };
    mint(&new, &SecretString::from(SECRET.to_owned())).expect("fixed claims can be signed")
}

/// The topic of user number `number`.
///
/// # Panics
/// Never: a number is a name.
#[must_use]
pub fn user_key(number: u32) -> TopicKey {
    let tenant = TenantId::new("t1").expect("a tenant's id");
    let user = Name::new(&format!("user-{number}")).expect("a user's name");
    TopicKey::user(&tenant, &user)
}

/// A masked text frame of a client: JSON-like ASCII of `len` bytes.
#[must_use]
pub fn masked_text(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let mask: [u8; 4] = rng.u32(..).to_be_bytes();
    let mut frame = vec![0x81];
    match u16::try_from(len) {
        Ok(short @ 0..=125) => frame.push(0x80 | short as u8),
        Ok(short) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&short.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend((0..len).map(|at| rng.alphanumeric() as u8 ^ mask[at % 4]));
    frame
}

/// The payload of an ephemeral publish with about `len` bytes.
#[must_use]
pub fn payload(len: usize) -> Bytes {
    format!(
        r#"{{"type":"message","data":"{}"}}"#,
        "x".repeat(len.saturating_sub(27))
    )
    .into()
}

/// A message for user 1 with a payload of about `len` bytes.
#[must_use]
pub fn message(len: usize) -> Message {
    let id = MessageId::generate();
    Message {
        key: user_key(1),
        position: Some(Position {
            epoch: 0xab_cdef,
            offset: 12_345,
            check: id.check(),
        }),
        header: Header::new(id, FrameKind::Message),
        payload: payload(len),
    }
}

/// Something to publish to user number `number`.
#[must_use]
pub fn publication(number: u32, history: bool) -> Publication {
    Publication {
        key: user_key(number),
        header: Header::new(MessageId::generate(), FrameKind::Message),
        payload: payload(128),
        history,
        idempotency_key: None,
    }
}
