//! Opening handshakes (RFC 6455 section 4): the request of a socket's user, and what the server answers.

use common::token::{NewToken, mint};
use secrecy::SecretString;

use super::{deflate, http, socket::End};
use crate::{stamp::Topic, target::Values, wire::Setup};

/// Largest answer.
const MAX_HEAD: usize = 16 * 1024;

/// The request for a user's socket.
pub(super) fn request(setup: &Setup, user: u32, as_user: bool) -> anyhow::Result<String> {
    let token = match &setup.secret {
        Some(secret) => session_token(setup, secret, user)?,
        None => String::new(),
    };
    let host = setup
        .addresses
        .first()
        .map_or_else(String::new, ToString::to_string);
    let values = Values {
        host: &host,
        token: &token,
        user,
        ..Values::default()
    };
    let socket = &setup.target.socket;
    let path = match &socket.user_path {
        Some(path) if as_user => path,
        _ => &socket.path,
    };
    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
        path.render(&values),
        key(),
    );
    if setup.deflate {
        request.push_str(&format!("Sec-WebSocket-Extensions: {}\r\n", deflate::OFFER));
    }
    for (name, value) in &socket.headers {
        request.push_str(&format!("{name}: {}\r\n", value.render(&values)));
    }
    request.push_str("\r\n");
    Ok(request)
}

/// Where the answer ends, once it is whole.
///
/// # Errors
/// The server refuses, or does not agree to compression where it is wanted, or to what nobody offered.
pub(super) fn answered(head: &[u8], deflate: bool) -> Result<Option<usize>, End> {
    let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
        return if head.len() > MAX_HEAD {
            Err(End::because("no answer to the handshake"))
        } else {
            Ok(None)
        };
    };
    let head = &head[..end];
    let status = http::status(head).unwrap_or(0);
    if status != 101 {
        let retry = http::header(head, "retry-after").and_then(|text| text.parse::<u64>().ok());
        return Err(End {
            reason: format!("HTTP {status}"),
            retry_ms: retry.map(|seconds| seconds * 1000),
        });
    }
    match (deflate, http::header(head, "sec-websocket-extensions")) {
        (false, Some(_)) => Err(End::because("an extension that was not offered")),
        (true, answer) if !answer.is_some_and(deflate::agreed) => {
            Err(End::because("permessage-deflate was not agreed"))
        }
        _ => Ok(Some(end + 4)),
    }
}

/// The topics a user has by its token, beside its own and the tenant's.
pub(super) fn groups(user: u32) -> [Topic; 2] {
    [Topic::role(user % 10), Topic::store(user % 100)]
}

/// The token of a user: two roles, a store, the run's tenant.
fn session_token(setup: &Setup, secret: &str, user: u32) -> anyhow::Result<String> {
    let [role, store] = groups(user);
    let new = NewToken {
        user: format!("u{user}"),
        tenant: Some(setup.tenant.clone()),
        roles: vec!["loadtest".to_owned(), format!("r{}", role.number())],
        stores: vec![format!("s{}", store.number())],
        // In a cluster nobody may subscribe to what the token does not name.
        topics: vec!["t*".to_owned()],
        ttl_seconds: setup.ttl_seconds,
        ..NewToken::default()
    };
    Ok(mint(&new, &SecretString::from(secret.to_owned()))?)
}

/// 16 random bytes in base64 (RFC 6455 section 4.1): 21 characters of 6 bits, one of 2, and the padding.
fn key() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut key: String = (0..21)
        .map(|_| char::from(ALPHABET[fastrand::usize(..64)]))
        .collect();
    key.push(char::from(ALPHABET[fastrand::usize(..4) * 16]));
    key.push_str("==");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sixteen_bytes() {
        let key = key();
        assert_eq!(key.len(), 24);
        assert!(
            ["A==", "Q==", "g==", "w=="].iter().any(|end| key.ends_with(end)),
            "{key}"
        );
    }

    #[test]
    fn an_answer_has_to_be_what_was_asked_for() {
        let answer =
            |extensions: &str| format!("HTTP/1.1 101 Switching Protocols\r\nA: b\r\n{extensions}\r\n\r\n~");
        let agreed = answer(&format!("Sec-WebSocket-Extensions: {}", deflate::OFFER));
        let (plain, other) = (
            answer("C: d"),
            answer("sec-websocket-extensions: permessage-deflate"),
        );
        let reason = |head: &str, deflate| answered(head.as_bytes(), deflate).map_err(|end| end.reason);
        assert_eq!(reason(&plain, false), Ok(Some(plain.len() - 1)));
        assert_eq!(reason(&agreed, true), Ok(Some(agreed.len() - 1)));
        assert_eq!(reason(&agreed[..30], true), Ok(None));
        for head in [&plain, &other] {
            assert_eq!(
                reason(head, true),
                Err("permessage-deflate was not agreed".to_owned())
            );
        }
        assert_eq!(
            reason(&agreed, false),
            Err("an extension that was not offered".to_owned())
        );
        let end = answered(b"HTTP/1.1 503 No\r\nRetry-After: 2\r\n\r\n", true).unwrap_err();
        assert_eq!((end.reason.as_str(), end.retry_ms), ("HTTP 503", Some(2000)));
    }
}
