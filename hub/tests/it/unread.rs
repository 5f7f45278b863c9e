//! Clients that ask and never read the answers: they are cut off. What is bounded otherwise has its tests elsewhere (slow
//! sockets, event streams).

use std::net::SocketAddr;

use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpSocket, time::timeout};

use crate::support::{PATIENCE, TestHub, publisher};

/// Sends `first`, then `again` until the server ends the connection. Nothing is read.
async fn until_cut(address: SocketAddr, first: String, again: String) {
    let socket = TcpSocket::new_v4().unwrap();
    // The kernel holds little of what is not read.
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let asking = async {
        stream.write_all(first.as_bytes()).await.unwrap();
        while stream.write_all(again.as_bytes()).await.is_ok() {}
    };
    // The clock moves when nobody has anything to do, so no wait takes time.
    timeout(10 * PATIENCE, asking)
        .await
        .expect("the server ends the connection");
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_answers_of_batches_is_cut_off() {
    let hub = TestHub::start().await;
    let messages = vec![json!({"to":{"everyone":true},"data":1}); 1000];
    let body = json!({ "messages": messages }).to_string();
    let request = format!(
        "POST /api/v1/publish/batch HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        publisher(),
        body.len()
    );
    until_cut(hub.internal, String::new(), request).await;
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_results_of_a_stream_is_cut_off() {
    let hub = TestHub::start().await;
    let head = format!(
        "POST /api/v1/publish/stream HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
        publisher()
    );
    let lines = "{\n".repeat(5000);
    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
    until_cut(hub.internal, head, chunk).await;
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_answers_of_the_public_listener_is_cut_off() {
    let hub = TestHub::start().await;
    // Many small ones in a write: the answers, refusals, are a multiple.
    let request = "GET /api/v1/websocket/stats HTTP/1.1\r\nHost: hub\r\n\r\n".repeat(500);
    until_cut(hub.public, String::new(), request).await;
}
