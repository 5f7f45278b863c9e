use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::mpsc::{SyncSender, sync_channel},
    time::{Duration, Instant},
};

use mio::{Events, Poll};

use super::*;
use crate::{
    target::Target,
    wire::{Form, Pace, To},
};

/// What a server does with one request.
#[derive(Clone, Copy)]
enum Manner {
    Ok,
    Refuse,
    Break,
}

/// Tells each request's body, and answers in the manners given, then well.
fn serve(
    name: &'static str,
    manners: &'static [Manner],
    told: SyncSender<(&'static str, String)>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut manners = manners.iter();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            while let Some(body) = request(&mut stream) {
                told.send((name, body)).unwrap();
                let answer = match manners.next().unwrap_or(&Manner::Ok) {
                    Manner::Ok => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                    Manner::Refuse => "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
                    Manner::Break => break,
                };
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    address
}

fn request(stream: &mut std::net::TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

/// Sends what is due and takes what has come.
fn turn(lanes: &mut Lanes, poll: &mut Poll, events: &mut Events) {
    lanes.tick(now_us(), poll.registry());
    poll.poll(events, Some(Duration::from_millis(5))).unwrap();
    for event in &*events {
        lanes.event(
            event.token().0 - FIRST_LANE,
            event.is_readable(),
            event.is_writable(),
            event.is_read_closed(),
        );
    }
}

#[test]
fn a_publish_is_repeated_with_its_key_on_the_next_node_until_it_is_acknowledged() {
    let (told, heard) = sync_channel(16);
    let addresses = vec![
        serve("a", &[Manner::Refuse, Manner::Break], told.clone()),
        serve("b", &[Manner::Break], told),
    ];
    let publish = Target::carillon().unwrap().publish;
    let mut lanes = Lanes::new(0xab, publish, addresses, "tok".to_owned()).unwrap();
    let job = Job {
        id: 1,
        to: To::Users { first: 7, count: 1 },
        pace: Pace::Answers,
        form: Form::Single,
        lanes: 1,
        pipeline: 1,
        size: 0,
        limit: 2,
        keys: 0,
        extra: String::new(),
        repeat: true,
    };
    lanes.start(job).unwrap();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(16);
    let end = Instant::now() + Duration::from_secs(10);
    while lanes.published < 2 {
        assert!(Instant::now() < end, "{lanes:?}");
        turn(&mut lanes, &mut poll, &mut events);
    }
    let heard: Vec<(&str, String)> = heard.try_iter().collect();
    let nodes: Vec<&str> = heard.iter().map(|(node, _)| *node).collect();
    assert_eq!(
        nodes,
        ["a", "b", "a", "b", "b"],
        "refused, cut, cut, taken; the second"
    );
    let keys: Vec<bool> = heard
        .iter()
        .map(|(_, body)| body.contains(r#""idempotency_key":"ab-user-1""#))
        .collect();
    assert_eq!(keys, [true, true, true, true, false]);
    assert_eq!(heard[0].1, heard[3].1, "it is the same request");
    assert_eq!((lanes.repeated.values().sum::<u64>(), lanes.unclear), (3, 2));
    assert!(lanes.errors.is_empty() && lanes.idle());
}

#[test]
fn what_has_no_answer_for_too_long_is_asked_again() {
    let (told, heard) = sync_channel(16);
    // It takes connections, and reads nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = vec![silent.local_addr().unwrap(), serve("b", &[], told)];
    let publish = Target::carillon().unwrap().publish;
    let mut lanes = Lanes::new(1, publish, addresses, String::new()).unwrap();
    lanes
        .start(Job {
            id: 1,
            to: To::All,
            pace: Pace::Answers,
            form: Form::Single,
            lanes: 1,
            pipeline: 1,
            size: 0,
            limit: 1,
            keys: 0,
            extra: String::new(),
            repeat: true,
        })
        .unwrap();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(16);
    let end = Instant::now() + Duration::from_secs(10);
    while lanes.published < 1 {
        assert!(Instant::now() < end, "{lanes:?}");
        turn(&mut lanes, &mut poll, &mut events);
        lanes.look_for_late(now_us());
        if lanes.lanes[0].asked.front().is_some() && lanes.unclear == 0 {
            lanes.look_for_late(now_us() + 2 * LONGEST_ANSWER_US);
        }
    }
    assert_eq!((heard.try_iter().count(), lanes.unclear), (1, 1));
}

#[test]
fn what_is_due_at_the_end_is_sent_still_unless_it_is_late() {
    let (told, heard) = sync_channel(16);
    let publish = Target::carillon().unwrap().publish;
    let mut lanes = Lanes::new(1, publish, vec![serve("a", &[], told)], String::new()).unwrap();
    lanes
        .start(Job {
            id: 1,
            to: To::All,
            pace: Pace::PerSecond(1_000.0),
            form: Form::Single,
            lanes: 1,
            pipeline: 1,
            size: 0,
            limit: 3,
            keys: 0,
            extra: String::new(),
            repeat: false,
        })
        .unwrap();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(16);
    let end = Instant::now() + Duration::from_secs(10);
    // Nothing of it can be sent yet, as nobody looks whether the connection is there.
    while lanes.lanes[0].waiting.len() < 3 {
        assert!(Instant::now() < end, "{lanes:?}");
        lanes.tick(now_us(), poll.registry());
    }
    lanes.lanes[0].waiting[0].at_us = Some(now_us() - 2 * IN_TIME_US);
    lanes.stop();
    assert_eq!(lanes.errors.values().sum::<u64>(), 1);
    while !lanes.idle() {
        assert!(Instant::now() < end, "{lanes:?}");
        turn(&mut lanes, &mut poll, &mut events);
    }
    assert_eq!((lanes.published, heard.try_iter().count()), (2, 2));
    assert_eq!(lanes.errors.values().sum::<u64>(), 1);
}
