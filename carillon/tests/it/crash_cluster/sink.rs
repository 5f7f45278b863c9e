//! Takes webhooks, and keeps which delivery came with which number.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::PATIENCE;
use crate::support::eventually;

#[derive(Debug)]
struct Shared {
    calls: Mutex<BTreeMap<u64, Vec<String>>>,
    came: AtomicUsize,
    /// Statuses by the number of the call, where they are held until a test says them.
    held: Option<watch::Sender<BTreeMap<usize, u16>>>,
}

/// Answers 200 to everything, or what a test says.
#[derive(Debug)]
pub(super) struct HookSink {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl HookSink {
    pub(super) async fn start() -> Self {
        Self::with(None).await
    }

    /// Each call waits for its [`Self::answer`].
    pub(super) async fn held() -> Self {
        Self::with(Some(watch::Sender::default())).await
    }

    async fn with(held: Option<watch::Sender<BTreeMap<usize, u16>>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            came: AtomicUsize::new(0),
            held,
        });
        let kept = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                // A caller that was killed ends its connection in the middle.
                tokio::spawn(async move { session(stream, &kept).await.ok() });
            }
        });
        Self { address, shared }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Waits until so many calls have come.
    pub(super) async fn reaches(&self, number: usize) {
        eventually("the calls come", PATIENCE, async || {
            (self.shared.came.load(Ordering::SeqCst) >= number).then_some(())
        })
        .await;
    }

    /// What the call of this number, from 0, is answered.
    pub(super) fn answer(&self, call: usize, status: u16) {
        let held = self.shared.held.as_ref().unwrap();
        held.send_modify(|statuses| {
            statuses.insert(call, status);
        });
    }

    /// The `webhook-id` of each call, by the number in its text.
    pub(super) fn calls(&self) -> BTreeMap<u64, Vec<String>> {
        self.shared.calls.lock().unwrap().clone()
    }
}

async fn session(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut id, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("webhook-id", value)) => id = Some(value.to_owned()),
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let number = super::ledger::number(body["data"]["content"].as_str().unwrap());
        let id = id.expect("a call without webhook-id");
        shared.calls.lock().unwrap().entry(number).or_default().push(id);
        let call = shared.came.fetch_add(1, Ordering::SeqCst);
        let mut status = 200;
        if let Some(held) = &shared.held {
            let mut held = held.subscribe();
            let said = held.wait_for(|statuses| statuses.contains_key(&call)).await;
            status = said.map_or(503, |statuses| statuses[&call]);
        }
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
}
