//! By system-call trace: each commit is on the disk before its answer leaves.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    eventually, program,
    server::{Home, terminate},
};

/// Requests, one after the other, so that each has a commit of its own.
const REQUESTS: usize = 50;

/// What of the trace matters, in order.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Request number so-and-so is written to the write-ahead log.
    Written(usize),
    /// A flush of the write-ahead log that began after everything before it in the trace has ended well.
    Flushed {
        /// The trace's line at which it began.
        began: usize,
    },
    /// The answer of request number so-and-so begins to leave.
    Answered(usize),
}

#[tokio::test]
async fn each_commit_is_flushed_before_its_answer_leaves() {
    let home = Home::new();
    let trace = home.folder().join("trace");
    let mut command = home.command(program("strace"));
    command
        .args(["-f", "-yy", "-s", "8192", "-e", "signal=none"])
        .args([
            "-e",
            "trace=execve,write,writev,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync",
        ])
        .arg("-o")
        .arg(&trace)
        .arg(crate::support::server::EXECUTABLE)
        .args(home.arguments());
    let server = home.start_as(command).await;
    let token = server
        .token(&["--user", "u1", "--scope", "notifications:write service"])
        .await;
    let mut client = server.public().await;
    for number in 0..REQUESTS {
        let body = json!({"to":{"user":"u1"},"title":probe(number),"content":"c","channels":["in_app"]});
        let answer = client
            .post("/api/v1/notifications", Some(&token), &body)
            .await
            .unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    // The first line is the server's own: strace is only its parent.
    let traced = std::fs::read_to_string(&trace).unwrap();
    let pid = traced
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok())
        .unwrap();
    terminate(pid).await;
    server.ended(Duration::from_secs(60)).await;
    let traced = eventually("the whole trace", Duration::from_secs(10), async || {
        let traced = std::fs::read_to_string(&trace).unwrap();
        traced.contains("+++ exited with 0 +++").then_some(traced)
    })
    .await;

    let steps = steps(&traced);
    for number in 0..REQUESTS {
        let position = |step: &Step| steps.iter().position(|(_, found)| found == step);
        let written =
            position(&Step::Written(number)).unwrap_or_else(|| panic!("no write of request {number}"));
        let answered =
            position(&Step::Answered(number)).unwrap_or_else(|| panic!("no answer to request {number}"));
        let flushed = steps[..answered]
            .iter()
            .any(|(_, step)| matches!(step, Step::Flushed { began } if *began > steps[written].0));
        assert!(
            flushed,
            "request {number} was answered before its commit was flushed"
        );
    }
    let flushes = steps
        .iter()
        .filter(|(_, step)| matches!(step, Step::Flushed { .. }))
        .count();
    assert!(
        flushes >= REQUESTS,
        "{flushes} flushes of the write-ahead log for {REQUESTS} requests"
    );
    println!(
        "flush test: {flushes} flushes of the write-ahead log for {REQUESTS} requests, each before its answer"
    );
}

fn probe(number: usize) -> String {
    format!("flush-probe-{number:03}")
}

/// The steps with their lines. A call that another thread interrupts has two lines: its begin and its end.
fn steps(trace: &str) -> Vec<(usize, Step)> {
    let mut steps = Vec::new();
    let mut open: Vec<(&str, usize)> = Vec::new();
    let mut answers = 0;
    for (line, text) in trace.lines().enumerate() {
        let Some((pid, call)) = text.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        let wal = call.contains("-wal>");
        if wal && call.starts_with("pwrite") {
            // A page holds the rows of earlier requests too.
            let numbers = call
                .split("flush-probe-")
                .skip(1)
                .filter_map(|rest| rest.get(..3)?.parse().ok());
            steps.extend(numbers.map(|number| (line, Step::Written(number))));
        } else if wal && (call.starts_with("fdatasync(") || call.starts_with("fsync(")) {
            if call.ends_with("<unfinished ...>") {
                open.push((pid, line));
            } else if call.trim_end().ends_with("= 0") {
                steps.push((line, Step::Flushed { began: line }));
            }
        } else if call.starts_with("<... fdatasync resumed>") || call.starts_with("<... fsync resumed>") {
            if let Some(index) = open.iter().position(|(other, _)| *other == pid) {
                let (_, began) = open.swap_remove(index);
                if call.trim_end().ends_with("= 0") {
                    steps.push((line, Step::Flushed { began }));
                }
            }
        } else if call.contains("TCP") && call.contains("HTTP/1.1 201") {
            steps.push((line, Step::Answered(answers)));
            answers += 1;
        }
    }
    steps
}

#[test]
fn the_trace_is_read_as_it_is() {
    let trace = "\
7 pwrite64(9</d/carillon.db-wal>, \"..flush-probe-000..\", 4096, 0) = 4096
7 fdatasync(9</d/carillon.db-wal> <unfinished ...>
8 write(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"HTTP/1.1 200 OK\", 15) = 15
7 <... fdatasync resumed>) = 0
8 writev(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base=\"HTTP/1.1 201 Created\", iov_len=20}], 1) = 20
7 fdatasync(9</d/carillon.db-wal>) = -1 EIO (Input/output error)
";
    let wanted = [
        (0, Step::Written(0)),
        (3, Step::Flushed { began: 1 }),
        (4, Step::Answered(0)),
    ];
    assert_eq!(steps(trace), wanted);
}
