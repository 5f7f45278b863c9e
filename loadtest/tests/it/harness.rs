//! The harness as its users see it: against the floor, which loses nothing, and against a server that does.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex, PoisonError},
};

use flate2::{Compress, Compression, FlushCompress};
use serde_json::Value;

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

fn report(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A description of the floor that this build made.
fn floor(folder: &Path) -> String {
    let path = folder.join("floor.toml");
    let program = env!("CARGO_BIN_EXE_floor");
    let description = format!(
        r#"
name = "floor"
[start]
command = ["{program}", "--listen", "127.0.0.1:{{port}}"]
ready = "/ready"
one_port = true
[socket]
path = "/ws"
user_path = "/ws/{{user}}"
[publish]
all = {{ path = "/pub", body = "{{payload}}" }}
user = {{ path = "/pub/{{user}}", body = "{{payload}}" }}
"#
    );
    std::fs::write(&path, description).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn two_hundred_sockets_get_every_broadcast_and_the_reports_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let describe = floor(folder.path());
    let [json, html] = ["result.json", "result.html"].map(|name| folder.path().join(name));
    let output = loadtest(&[
        "broadcast",
        "--describe",
        &describe,
        "--sockets",
        "200",
        "--seconds",
        "1",
        "--in-flight",
        "4",
        "--processes",
        "2",
        "--json",
        json.to_str().unwrap(),
        "--html",
        html.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", text(&output));
    let report = report(&json);
    let figure = |name: &str| report["figures"][name].as_f64().unwrap();
    assert_eq!(
        [figure("sockets"), figure("lost"), figure("doubled")],
        [200.0, 0.0, 0.0]
    );
    assert!(
        figure("received") >= 200.0 && figure("cpu_us_per_delivery") > 0.0,
        "{report}"
    );
    let latency = &report["latencies"]["delivery"];
    assert!(
        latency["p50_ms"].as_f64() <= latency["p99_ms"].as_f64(),
        "{latency}"
    );
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("publish to receive"));

    let json = json.to_str().unwrap();
    let output = loadtest(&["compare", json, json]);
    assert!(text(&output).contains("deliveries a second"), "{}", text(&output));
}

#[test]
fn unicasts_reach_their_users() {
    let folder = tempfile::tempdir().unwrap();
    let describe = floor(folder.path());
    let output = loadtest(&[
        "unicast",
        "--describe",
        &describe,
        "--sockets",
        "50",
        "--seconds",
        "1",
        "--lanes",
        "4",
    ]);
    assert!(output.status.success(), "{}", text(&output));
}

/// How a made-up server behaves.
#[derive(Clone, Copy)]
struct Manner {
    /// Headers of its answer to a handshake.
    headers: &'static str,
    /// The frames that carry a message; none: the socket does not get it. The numbers are those of the socket and of the
    /// message, from 0 and from 1.
    frames: fn(usize, u32, &[u8]) -> Option<Vec<u8>>,
}

/// Loses every third message to the second socket.
const FORGETFUL: Manner = Manner {
    headers: "",
    frames: |socket, number, body| (socket == 0 || number % 3 != 0).then(|| frame(0x81, body)),
};

/// Compresses, and cuts every other message into two frames.
const DEFLATING: Manner = Manner {
    headers: "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
    frames: |_, number, body| {
        let body = deflated(body);
        let (begin, end) = body.split_at(body.len() / 2);
        Some(if number % 2 == 0 {
            frame(0xc1, &body)
        } else {
            [frame(0x41, begin), frame(0x80, end)].concat()
        })
    },
};

/// Agrees to compression, and does not know how.
const GARBLING: Manner = Manner {
    frames: |_, _, body| Some(frame(0xc1, body)),
    ..DEFLATING
};

/// The end of the message, an empty block, is left out on the wire (RFC 7692 section 7.2.1).
fn deflated(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64);
    Compress::new(Compression::default(), false)
        .compress_vec(body, &mut out, FlushCompress::Sync)
        .unwrap();
    out.truncate(out.len() - 4);
    out
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(len @ ..126) => frame.push(len),
        _ => {
            frame.push(126);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn serve(manner: Manner) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sockets: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, sockets) = (stream.unwrap(), Arc::clone(&sockets));
            std::thread::spawn(move || {
                let mut count = 0;
                while let Some((head, body)) = request(&mut stream) {
                    if head.starts_with("GET") {
                        let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n", manner.headers);
                        stream.write_all(answer.as_bytes()).unwrap();
                        sockets
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(stream.try_clone().unwrap());
                        continue;
                    }
                    count += 1;
                    let mut all = sockets.lock().unwrap_or_else(PoisonError::into_inner);
                    for (index, socket) in all.iter_mut().enumerate() {
                        if let Some(frames) = (manner.frames)(index, count, &body) {
                            socket.write_all(&frames).ok();
                        }
                    }
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok();
                }
            });
        }
    });
    address
}

/// A request's head and body; none at the end of the stream.
fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Broadcasts for a second to two sockets of a made-up server; what was said, and the report where there is one.
fn broadcast(manner: Manner, options: &[&str]) -> (Output, Option<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made-up.toml");
    let description = "name = \"made-up\"\n[socket]\npath = \"/ws\"\n[publish]\nall = { path = \"/pub\", body = \"{payload}\" }\n";
    std::fs::write(&path, description).unwrap();
    let json = folder.path().join("result.json");
    let address = serve(manner);
    let usual = [
        "broadcast",
        "--describe",
        path.to_str().unwrap(),
        "--address",
        &address,
        "--sockets",
        "2",
        "--seconds",
        "1",
        "--rate",
        "30",
        "--grace-seconds",
        "1",
        "--json",
        json.to_str().unwrap(),
    ];
    let output = loadtest(&[&usual, options].concat());
    (output, json.exists().then(|| report(&json)))
}

#[test]
fn a_server_that_loses_messages_is_found_out() {
    let (output, report) = broadcast(FORGETFUL, &["--size", "64"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("FAIL each socket got each of its messages once"),
        "{said}"
    );
    let lost = report.unwrap()["figures"]["lost"].as_f64().unwrap();
    assert!(lost >= 9.0, "a third of what one socket should have: {said}");
}

#[test]
fn compressed_messages_are_read_and_counted_as_they_come() {
    let (output, report) = broadcast(DEFLATING, &["--size", "1024", "--deflate"]);
    assert!(output.status.success(), "{}", text(&output));
    let report = report.unwrap();
    let figure = |name: &str| report["figures"][name].as_f64().unwrap();
    assert_eq!(figure("compressed"), figure("received"));
    assert!((300.0..750.0).contains(&figure("bytes_per_delivery")), "{report}");

    let plain = Manner {
        frames: |_, _, body| Some(frame(0x81, body)),
        headers: "",
    };
    let (output, report) = broadcast(plain, &["--size", "1024"]);
    assert!(output.status.success(), "{}", text(&output));
    let figures = &report.unwrap()["figures"];
    assert_eq!(figures["bytes_per_delivery"].as_f64(), Some(1028.0), "{figures}");
    assert!(figures.get("compressed").is_none(), "{figures}");
}

#[test]
fn compression_that_is_not_agreed_or_not_kept_fails_the_run() {
    let (output, _) = broadcast(FORGETFUL, &["--deflate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("permessage-deflate was not agreed"),
        "{}",
        text(&output)
    );
    let (output, report) = broadcast(GARBLING, &["--deflate"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let closed = &report.unwrap()["counts"]["socket closed"];
    assert!(closed.to_string().contains("compressed data"), "{closed}");
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    for (arguments, wanted) in [
        (
            &["broadcast", "--address", "192.0.2.1:80"][..],
            "is not a loopback address",
        ),
        (
            &["broadcast", "--describe", "nowhere.toml"],
            "reading nowhere.toml",
        ),
        (&["compare", "nowhere.json"], "reading nowhere.json"),
    ] {
        let output = loadtest(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(wanted), "{}", text(&output));
    }
}
