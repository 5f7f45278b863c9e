//! gRPC of the running executable, from a client in another language (`tests/grpc/client.py`).

use std::{path::PathBuf, process::Stdio, time::Duration};

use rig::{
    carillon::{Node, Options, Service},
    redis::{self, Server},
};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::support::{
    cluster::{Common, token},
    server::EXECUTABLE,
};

/// How long the client may take between two lines, and the server for an end.
const PATIENCE: Duration = Duration::from_secs(90);

/// What services may here.
const SCOPES: [&str; 4] = ["notifications:write", "inbox:any", "publish", "service"];

/// The client's interpreter with its libraries.
fn python() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here.join("target"), PathBuf::from);
    let python = target.join("tools/grpc/bin/python");
    assert!(
        python.is_file(),
        "{} is missing: scripts/setup.sh grpc",
        python.display()
    );
    python
}

/// The client at work.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(what: &str, node: &Node, service: &str, reader: &str) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/grpc/client.py");
        let mut child = Command::new(python())
            .arg(script)
            .args([what, &node.grpc().to_string()])
            .env("TOKEN", service)
            .env("READER", reader)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("the client says something")
            .unwrap()
    }

    /// Waits for this line.
    async fn until(&mut self, wanted: &str) {
        while let Some(line) = self.line().await {
            if line == wanted {
                return;
            }
        }
        panic!("the client ended before it said `{wanted}`");
    }

    /// Tells it that the server is there again.
    async fn go_on(&mut self) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(b"\n").await.unwrap();
    }

    /// Its last line, after which it ended well.
    async fn end(mut self) -> String {
        let mut last = String::new();
        while let Some(line) = self.line().await {
            last = line;
        }
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .expect("the client ends")
            .unwrap();
        assert!(status.success(), "{status}: {last}");
        last
    }
}

fn standalone() -> Node {
    let options = Options {
        program: Some(EXECUTABLE.into()),
        environment: vec![("CARILLON_HUB__LAME_DUCK".to_owned(), "0s".to_owned())],
        ..Options::default()
    };
    Node::start(&options).unwrap()
}

/// Tokens of a service and of a reader.
fn tokens(node: &Node) -> [String; 2] {
    let mut service = vec!["token", "--user", "service"];
    service.extend(SCOPES.iter().flat_map(|scope| ["--scope", scope]));
    [node.command(&service), node.command(&["token", "--user", "u1"])].map(Result::unwrap)
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_2_a_client_in_python_makes_every_call() {
    let node = standalone();
    let [service, reader] = tokens(&node);
    let client = Client::start("calls", &node, &service, &reader);
    assert_eq!(client.end().await, "done");
    let metrics = crate::support::client::Client::connect(node.internal())
        .await
        .unwrap()
        .get("/metrics", None)
        .await
        .unwrap();
    let counted = "grpc_calls_total{call=\"carillon.v1.NotificationService/SendNotification\",code=\"Ok\"}";
    let metrics = String::from_utf8_lossy(&metrics.body);
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_2_the_same_of_a_dispatcher_of_a_cluster() {
    let redis = Server::start(&redis::Options::default()).unwrap();
    let node = Common::on(&redis).start(Service::Dispatcher);
    let service = token(&node, "service", &SCOPES.join(" "));
    let client = Client::start("calls", &node, &service, &token(&node, "u1", ""));
    assert_eq!(client.end().await, "done");
}

#[derive(Debug, Deserialize)]
struct Watched {
    failed: Vec<String>,
    cuts: usize,
    sent: Vec<String>,
    seen: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_2_a_watch_has_no_gap_and_no_double_over_kills_and_restarts() {
    let node = standalone();
    let [service, reader] = tokens(&node);
    let mut client = Client::start("watch", &node, &service, &reader);
    for wanted in ["sent 40", "sent 80"] {
        client.until(wanted).await;
        node.restart().unwrap();
        client.go_on().await;
    }
    // A stop in order says so, and is no other than a cut for who watches.
    client.until("sent 120").await;
    node.terminate().unwrap();
    assert!(node.wait(PATIENCE).unwrap(), "{}", node.log());
    node.restart().unwrap();
    client.go_on().await;
    let watched: Watched = serde_json::from_str(&client.end().await).unwrap();
    assert!(watched.failed.is_empty(), "{:?}", watched.failed);
    assert!(watched.cuts >= 2, "{watched:?}");
    assert_eq!(watched.sent.len(), 150);
    assert_eq!(watched.seen, watched.sent, "each once, in order");
}
