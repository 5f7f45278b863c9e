//! Requests signed as the Pusher HTTP API asks for it.

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{
    Sha256,
    digest::{Digest, OutputSizeUser, generic_array::GenericArray},
};

/// An application's credentials.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pusher {
    pub(crate) key: String,
    /// A server under test has no secrets worth hiding: it is in its description.
    pub(crate) secret: String,
}

impl Pusher {
    /// The path with the query that authorises a POST of this body (Pusher's HTTP API reference, "Authentication").
    pub(crate) fn signed(&self, path: &str, body: &[u8], unix_seconds: u64) -> String {
        let md5 = hex(&md5::Digest::finalize(<Md5 as md5::Digest>::new_with_prefix(
            body,
        )));
        let query = format!(
            "auth_key={}&auth_timestamp={unix_seconds}&auth_version=1.0&body_md5={md5}",
            self.key
        );
        let signature = hmac(
            self.secret.as_bytes(),
            format!("POST\n{path}\n{query}").as_bytes(),
        );
        format!("{path}?{query}&auth_signature={}", hex(&signature))
    }
}

/// RFC 2104, for keys of up to 64 bytes (a longer one is hashed first).
fn hmac(key: &[u8], text: &[u8]) -> GenericArray<u8, <Sha256 as OutputSizeUser>::OutputSize> {
    let mut block = [0; 64];
    match block.get_mut(..key.len()) {
        Some(begin) => begin.copy_from_slice(key),
        None => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let inner = Sha256::new_with_prefix(block.map(|byte| byte ^ 0x36))
        .chain_update(text)
        .finalize();
    Sha256::new_with_prefix(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_example_is_signed_as_there() {
        let pusher = Pusher {
            key: "278d425bdf160c739803".to_owned(),
            secret: "7ad3773142a6692b25b8".to_owned(),
        };
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        assert_eq!(
            pusher.signed("/apps/3/events", body, 1_353_088_179),
            "/apps/3/events?auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0\
             &body_md5=ec365a775a4cd0599faeb73354201b6f\
             &auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        );
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        // Test cases 2 and 6 (a key longer than a block).
        assert_eq!(
            hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            )),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
