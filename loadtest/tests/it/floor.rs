//! The floor as its clients see it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

struct Floor {
    child: Child,
    address: String,
}

impl Floor {
    /// None where the kernel does not allow io_uring: the program says so and ends.
    fn start(options: &[&str]) -> Option<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_floor"))
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Some(address) = line.trim().strip_prefix("listening on ") else {
            assert!(!options.is_empty(), "plain sends need no permission");
            child.wait().unwrap();
            return None;
        };
        Some(Self {
            address: address.to_owned(),
            child,
        })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn socket(&self, path: &str) -> TcpStream {
        let mut stream = self.connect();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        let head = head(&mut stream);
        assert!(
            head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "{head}"
        );
        stream
    }

    fn both_ways(test: impl Fn(&Self)) {
        for options in [&[][..], &["--uring"]] {
            if let Some(floor) = Self::start(options) {
                test(&floor);
            }
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn publish(stream: &mut TcpStream, path: &str, body: &[u8]) -> String {
    let mut request = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request).unwrap();
    head(stream)
}

/// The payload of the next frame, whose header has four bytes from 126 bytes of payload on.
fn message(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 2];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[0], 0x81, "a whole text message");
    let len = match header[1] {
        126 => {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            usize::from(u16::from_be_bytes(len))
        }
        len => usize::from(len),
    };
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).unwrap();
    payload
}

#[test]
fn everyone_gets_broadcasts_and_a_user_what_is_for_him() {
    Floor::both_ways(|floor| {
        let mut all: Vec<TcpStream> = (0..300).map(|_| floor.socket("/ws")).collect();
        let mut user = floor.socket("/ws/7");
        let mut publisher = floor.connect();
        assert!(publish(&mut publisher, "/pub", b"one").starts_with("HTTP/1.1 200 "));
        assert!(publish(&mut publisher, "/pub/7", b"two").starts_with("HTTP/1.1 200 "));
        assert!(publish(&mut publisher, "/pub/8", b"nobody").starts_with("HTTP/1.1 200 "));
        assert!(publish(&mut publisher, "/elsewhere", b"").starts_with("HTTP/1.1 404 "));
        for socket in &mut all {
            assert_eq!(message(socket), b"one");
        }
        assert_eq!(message(&mut user), b"two", "and no broadcast before it");
    });
}

#[test]
fn a_reader_that_comes_late_gets_everything_in_order() {
    Floor::both_ways(|floor| {
        let mut late = floor.socket("/ws");
        let mut prompt = floor.socket("/ws");
        let mut publisher = floor.connect();
        // Far more than the kernel buffers for a reader that does not read: the rest waits in the program.
        let (count, size) = (200_u32, 60_000);
        for number in 0..count {
            let mut body = number.to_be_bytes().to_vec();
            body.resize(size, b'x');
            publish(&mut publisher, "/pub", &body);
            assert_eq!(message(&mut prompt)[..4], number.to_be_bytes());
        }
        for number in 0..count {
            let message = message(&mut late);
            assert_eq!((message.len(), &message[..4]), (size, &number.to_be_bytes()[..]));
        }
    });
}

#[test]
fn one_that_is_gone_or_never_reads_does_not_hurt_the_others() {
    Floor::both_ways(|floor| {
        let gone = floor.socket("/ws");
        let stalled = floor.socket("/ws");
        let mut prompt = floor.socket("/ws");
        gone.shutdown(Shutdown::Both).unwrap();
        drop(gone);
        let mut publisher = floor.connect();
        // More than the kernel and the program keep for one: it is cut.
        let body = vec![b'x'; 60_000];
        for _ in 0..600 {
            publish(&mut publisher, "/pub", &body);
            assert_eq!(message(&mut prompt).len(), body.len());
        }
        drop(stalled);
        publish(&mut publisher, "/pub", b"still here");
        assert_eq!(message(&mut prompt), b"still here");
    });
}
