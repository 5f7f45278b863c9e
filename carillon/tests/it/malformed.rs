//! Malformed WebSocket input over a real socket: each is closed with the right code, and nobody else is.

use crate::support::{
    server::{Home, Server},
    socket::{RawSocket, Socket},
};

#[path = "../../../hub/tests/it/malformed.rs"]
mod table;

/// Largest message of the server under test, in bytes.
const MAX_MESSAGE: usize = 4096;

#[tokio::test]
async fn each_is_closed_with_its_code() {
    let home = Home::new()
        .set("CARILLON_HUB__MAX_MESSAGE", &MAX_MESSAGE)
        // All come at once, from one address and user.
        .set("CARILLON_HUB__HANDSHAKES_PER_SECOND", &10_000)
        .set("CARILLON_HUB__MAX_CONNECTIONS_PER_USER", &1000)
        .set("CARILLON_HUB__MAX_CONNECTIONS_PER_ADDRESS", &1000);
    let server: Server = home.start().await;
    let token = server.token(&["--user", "u1"]).await;
    let mut witness = Socket::open(server.home.public, &token).await;
    let mut wrong = Vec::new();
    for (name, bytes, code) in table::malformed(MAX_MESSAGE) {
        let mut socket = RawSocket::open(server.home.public, &token).await;
        socket.send(&bytes).await;
        let got = socket.closed().await;
        if got != Some(code) {
            wrong.push(format!("{name}: {got:?} instead of {code}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    witness.until_pong().await;
}

#[tokio::test]
async fn bytes_that_come_one_at_a_time_are_the_same() {
    let server = Server::start().await;
    let token = server.token(&["--user", "u1"]).await;
    for (bytes, code) in [
        (table::masked(0x81, b"a\x80"), 1007),
        (vec![0x81, 0x02, b'h', b'i'], 1002),
        (table::masked(0x88, &[0x03, 0xE8]), 1000),
    ] {
        let mut socket = RawSocket::open(server.home.public, &token).await;
        for byte in bytes {
            socket.send(&[byte]).await;
        }
        assert_eq!(socket.closed().await, Some(code));
    }
}
