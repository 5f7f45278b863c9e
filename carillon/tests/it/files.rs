//! The limit of open files: said at the start, and survived when it is met.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::{
    eventually,
    server::{EXECUTABLE, Home, Server},
    socket::RawSocket,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the server with a limit that it cannot raise.
async fn start(home: &Home, limit: u32) -> Server {
    let mut command = home.command("sh");
    command
        .arg("-c")
        .arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\""))
        .arg(EXECUTABLE)
        .args(home.arguments());
    home.start_as(command).await
}

/// Processor time so far, fields 14 and 15 of `/proc/PID/stat` (proc(5)) in hundredths of a second.
fn processor_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn the_limit_is_said_at_the_start() {
    let home = Home::new().set("CARILLON_LOG__FORMAT", "json");
    let server = start(&home, 1000).await;
    let log = home.log();
    let line = |text: &str| log.lines().find(|line| line.contains(text)).map(str::to_owned);
    let said = line("sockets that the limit of open files allows").unwrap_or_else(|| panic!("{log}"));
    assert!(said.contains("\"sockets\":744"), "{said}");
    let warned = line("hub.max_connections is more than").unwrap_or_else(|| panic!("{log}"));
    assert!(warned.contains("\"max_connections\":100000"), "{warned}");
    server.kill().await;

    let home = Home::new().set("CARILLON_HUB__MAX_CONNECTIONS", "744");
    let server = start(&home, 1000).await;
    assert!(
        !home.log().contains("hub.max_connections is more"),
        "{}",
        home.log()
    );
    server.kill().await;
}

#[tokio::test]
async fn a_server_without_descriptors_waits_and_goes_on() {
    const FULL: &str = "cannot accept a connection";
    let home = Home::new();
    let server = start(&home, 128).await;
    let token = server.token(&["--user", "u1"]).await;
    let socket = RawSocket::open(home.public, &token).await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(TcpStream::connect(home.public).await.unwrap());
    }
    let failed = async |times: usize| {
        eventually("accepting fails", PATIENCE, async || {
            (home.log().matches(FULL).count() >= times).then_some(())
        })
        .await;
    };
    failed(1).await;
    let before = processor_time(server.pid());
    // Eight more failures are a second and a half of waiting.
    failed(9).await;
    let used = processor_time(server.pid()) - before;
    assert!(used < 75, "{used} hundredths of a second: it did not wait");

    drop(crowd);
    eventually("the server accepts again", PATIENCE, async || {
        let mut client = crate::support::client::Client::connect(home.public).await.ok()?;
        let answer = client.get("/live", None).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    drop(socket);
    server.kill().await;
}
