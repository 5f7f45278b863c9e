use std::{io::Read as _, net::TcpListener, time::Duration};

use mio::{Events, Interest, Poll, Token};

use super::*;
use crate::{target::Target, wire::Rounds};

#[test]
fn a_close_says_why_and_when_to_come_back() {
    let end = close(b"\x03\xf4restart; retry_after_ms=1500");
    assert_eq!(
        (end.reason.as_str(), end.retry_ms),
        ("closed with 1012 restart", Some(1500))
    );
    assert_eq!(close(b"\x0f\xa8").reason, "closed with 4008");
    assert_eq!(close(b"").reason, "closed with 1005");
}

#[test]
fn an_end_that_comes_together_with_the_last_bytes_is_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup {
        target: Target::carillon().unwrap(),
        addresses: vec![listener.local_addr().unwrap()],
        publishes: Vec::new(),
        secret: None,
        tenant: "t".to_owned(),
        run: 1,
        sources: 1,
        connecting: 1,
        ttl_seconds: 60,
        spin: false,
        deflate: false,
        resume: true,
        rounds: Rounds::Off,
        seed: 1,
    };
    let mut shared = Shared::new(&setup).unwrap();
    let mut reader = Reader::new();
    let mut slot = Slot::new(1, true, Vec::new());
    slot.connect(&setup).unwrap();
    let mut poll = Poll::new().unwrap();
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(slot.stream.as_mut().unwrap(), Token(0), interest)
        .unwrap();
    let mut next = |slot: &mut Slot| {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
        let event = events.iter().next().expect("an event");
        slot.event(
            &setup,
            &mut shared,
            &mut reader,
            event.is_writable(),
            event.is_read_closed(),
        )
    };
    next(&mut slot).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        request.extend(byte);
    }
    let welcome = br#"{"type":"welcome","positions":{}}"#;
    let answer = [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81".as_slice(),
        &[welcome.len() as u8],
        welcome,
    ]
    .concat();
    // On loopback both are there when these return.
    server.write_all(&answer).unwrap();
    drop(server);
    assert_eq!(next(&mut slot).unwrap_err().reason, "end of stream");
}
