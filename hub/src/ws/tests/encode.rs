use fastwebsockets::{OpCode, Role, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ws::{encode_close, encode_ping, encode_pong, encode_text, text_header};

#[test]
fn headers_are_minimal_at_the_borders() {
    assert_eq!(text_header(0).as_ref(), [0x81, 0]);
    assert_eq!(text_header(125).as_ref(), [0x81, 125]);
    assert_eq!(text_header(126).as_ref(), [0x81, 126, 0, 126]);
    assert_eq!(text_header(65535).as_ref(), [0x81, 126, 0xFF, 0xFF]);
    assert_eq!(text_header(65536).as_ref(), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn parts_are_joined_behind_one_header() {
    assert_eq!(encode_text(&[r#"{"a":"#, "1", "}"])[..], *b"\x81\x07{\"a\":1}");
    assert_eq!(encode_text::<&str>(&[])[..], [0x81, 0]);
}

#[test]
fn control_payloads_are_cut_to_fit() {
    assert_eq!(encode_ping(&[7; 125]).len(), 127);
    assert_eq!(encode_ping(&[7; 126])[..2], [0x89, 125]);
    assert_eq!(encode_pong(b"same")[..], *b"\x8A\x04same");
    assert_eq!(
        encode_close(4008, "slow consumer")[..],
        *b"\x88\x0F\x0F\xA8slow consumer"
    );
    assert_eq!(encode_close(None, "not sent")[..], [0x88, 0]);
    // 122 bytes and a character of three: only 122 fit, as 123 would end inside it.
    let reason = "x".repeat(122) + "€";
    assert_eq!(encode_close(1000, &reason)[..2], [0x88, 124]);
    assert_eq!(encode_close(1000, &"é".repeat(200))[..2], [0x88, 124]);
    assert_eq!(encode_close(1000, &"x".repeat(200))[..2], [0x88, 125]);
}

/// An independent client reads what the hub writes.
#[tokio::test]
async fn fastwebsockets_reads_our_frames() {
    let lengths = [0, 1, 125, 126, 65535, 65536, 200_000];
    let texts: Vec<String> = lengths.iter().map(|&len| "x".repeat(len)).collect();
    let mut stream = Vec::new();
    for text in &texts {
        stream.extend(encode_text(&[text]));
    }
    stream.extend(encode_ping(b"serial 1"));
    stream.extend(encode_pong(b""));
    stream.extend(encode_close(1012, "restart"));

    let (server, client) = tokio::io::duplex(stream.len());
    let (mut from_client, mut to_client) = tokio::io::split(server);
    to_client.write_all(&stream).await.unwrap();

    let mut client = WebSocket::after_handshake(client, Role::Client);
    client.set_auto_pong(false);
    client.set_auto_close(false);
    for text in &texts {
        let frame = client.read_frame().await.unwrap();
        assert_eq!(
            (frame.opcode, &frame.payload[..]),
            (OpCode::Text, text.as_bytes())
        );
    }
    for (opcode, payload) in [
        (OpCode::Ping, &b"serial 1"[..]),
        (OpCode::Pong, b""),
        (OpCode::Close, b"\x03\xF4restart"),
    ] {
        let frame = client.read_frame().await.unwrap();
        assert_eq!((frame.opcode, &frame.payload[..]), (opcode, payload));
    }

    // And the parser reads what that client writes.
    client
        .write_frame(fastwebsockets::Frame::text(b"hello"[..].into()))
        .await
        .unwrap();
    let mut bytes = vec![0; 64];
    let len = from_client.read(&mut bytes).await.unwrap();
    assert_eq!(super::parse(&bytes[..len]).0, [super::Seen::Text("hello".into())]);
}
