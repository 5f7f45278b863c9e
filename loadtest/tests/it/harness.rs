//! The harness as its users see it: against the floor, which loses nothing, and against a server that does.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex, PoisonError},
};

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

/// A server of two sockets, to the second of which it does not send every third message.
fn forgetful() -> String {
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
                        stream
                            .write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                            .unwrap();
                        sockets
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(stream.try_clone().unwrap());
                        continue;
                    }
                    count += 1;
                    let frame = [&[0x81, body.len() as u8], body.as_slice()].concat();
                    let mut all = sockets.lock().unwrap_or_else(PoisonError::into_inner);
                    for (index, socket) in all.iter_mut().enumerate() {
                        if index == 0 || count % 3 != 0 {
                            socket.write_all(&frame).ok();
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

#[test]
fn a_server_that_loses_messages_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forgetful.toml");
    let description = "name = \"forgetful\"\n[socket]\npath = \"/ws\"\n[publish]\nall = { path = \"/pub\", body = \"{payload}\" }\n";
    std::fs::write(&path, description).unwrap();
    let json = folder.path().join("result.json");
    let output = loadtest(&[
        "broadcast",
        "--describe",
        path.to_str().unwrap(),
        "--address",
        &forgetful(),
        "--sockets",
        "2",
        "--seconds",
        "1",
        "--rate",
        "30",
        "--size",
        "64",
        "--grace-seconds",
        "1",
        "--json",
        json.to_str().unwrap(),
    ]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("FAIL each socket got each of its messages once"),
        "{said}"
    );
    let lost = report(&json)["figures"]["lost"].as_f64().unwrap();
    assert!(lost >= 9.0, "a third of what one socket should have: {said}");
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
