//! What comes from the bus: an envelope that is accepted is written again with the same meaning; positions likewise.
#![no_main]

use bytes::Bytes;
use common::message::{Position, decode_envelope, encode_envelope};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(position) = std::str::from_utf8(data).unwrap_or_default().parse::<Position>() {
        assert_eq!(position.to_string().parse(), Ok(position));
    }

    let Ok((header, payload)) = decode_envelope(&Bytes::copy_from_slice(data)) else {
        return;
    };
    let again = encode_envelope(&header, &payload);
    match decode_envelope(&again) {
        Ok(decoded) => assert_eq!(decoded, (header, payload)),
        Err(error) => panic!("{} cannot be read back: {error}", String::from_utf8_lossy(&again)),
    }
});
