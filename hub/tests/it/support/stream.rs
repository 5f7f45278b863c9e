//! A client of the event stream, as close to a browser's `EventSource` as a test can see through.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{Answer, soon};

/// One block of the stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Block {
    /// An event with data.
    Event(Value),
    /// A comment or an id alone, which no `EventSource` shows.
    Silent,
    /// The stream ended in order.
    End,
    /// The connection was cut.
    Cut,
}

/// A client over a plain socket.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    /// Bytes as they came.
    raw: Vec<u8>,
    /// The body that was not looked at yet.
    body: Vec<u8>,
    ended: bool,
    pub(crate) answer: Answer,
    /// The last id.
    pub(crate) id: String,
    /// The last `retry`, in milliseconds.
    pub(crate) retry: u64,
}

impl Stream {
    /// Asks for a stream; whatever the answer is.
    pub(crate) async fn attempt(
        address: SocketAddr,
        query: &str,
        headers: &str,
        receive_buffer: u32,
    ) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if receive_buffer > 0 {
            socket.set_recv_buffer_size(receive_buffer).unwrap();
        }
        let mut socket = socket.connect(address).await.unwrap();
        let request = format!("GET /api/v1/sse?{query} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        let head = async {
            loop {
                if let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") {
                    return end + 4;
                }
                assert!(socket.read_buf(&mut raw).await.unwrap() > 0, "no answer");
            }
        };
        let end = soon("the answer", head).await;
        let mut head: Vec<u8> = raw.drain(..end).collect();
        let answer = Answer::parse(&head);
        let length = answer
            .header("content-length")
            .map(|length| length.parse().unwrap());
        if let Some(length) = length {
            while raw.len() < length && socket.read_buf(&mut raw).await.unwrap() > 0 {}
            head.extend(raw.drain(..length));
        }
        Self {
            socket,
            raw,
            body: Vec::new(),
            ended: false,
            answer: Answer::parse(&head),
            id: String::new(),
            retry: 0,
        }
    }

    /// Opens a stream that must be let in, coming back with the id where there is one.
    pub(crate) async fn open(address: SocketAddr, token: &str, query: &str, id: &str) -> Self {
        let mut headers = format!("Authorization: Bearer {token}\r\n");
        if !id.is_empty() {
            headers.push_str(&format!("Last-Event-ID: {id}\r\n"));
        }
        let mut stream = Self::attempt(address, query, &headers, 0).await;
        assert_eq!(stream.answer.status, 200, "{:?}", stream.answer);
        id.clone_into(&mut stream.id);
        stream
    }

    /// The next block.
    pub(crate) async fn block(&mut self) -> Block {
        soon("a block", self.any_block()).await
    }

    async fn any_block(&mut self) -> Block {
        loop {
            if let Some(end) = self.body.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.body.drain(..end + 2).collect();
                return self.read(std::str::from_utf8(&block).unwrap());
            }
            if self.ended {
                assert!(self.body.is_empty(), "a torn event");
                return Block::End;
            }
            // A reset is a cut too.
            if self.socket.read_buf(&mut self.raw).await.unwrap_or(0) == 0 {
                return Block::Cut;
            }
            self.unchunk();
        }
    }

    fn unchunk(&mut self) {
        while let Some(line) = self.raw.windows(2).position(|two| two == b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if self.raw.len() < line + 2 + size + 2 {
                return;
            }
            self.body.extend_from_slice(&self.raw[line + 2..line + 2 + size]);
            self.raw.drain(..line + 2 + size + 2);
            if size == 0 {
                self.ended = true;
            }
        }
    }

    fn read(&mut self, block: &str) -> Block {
        let mut data: Option<String> = None;
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => {
                    assert!(value.is_ascii());
                    value.clone_into(&mut self.id);
                }
                "retry" => self.retry = value.parse().unwrap(),
                "data" => {
                    let data = data.get_or_insert_default();
                    if !data.is_empty() {
                        data.push('\n');
                    }
                    data.push_str(value);
                }
                "" => {}
                other => panic!("no field of ours: {other}"),
            }
        }
        data.map_or(Block::Silent, |data| {
            Block::Event(serde_json::from_str(&data).unwrap())
        })
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            match self.block().await {
                Block::Event(event) => return event,
                Block::Silent => {}
                other => panic!("no event but {other:?}"),
            }
        }
    }

    /// The next event, which is of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let event = self.event().await;
        assert_eq!(event["type"], kind, "{event}");
        event
    }

    /// Reads up to the `close` event, which has to be the last.
    pub(crate) async fn closed(&mut self) -> Value {
        loop {
            let event = self.event().await;
            if event["type"] == "close" {
                assert_eq!(self.block().await, Block::End);
                return event;
            }
        }
    }

    /// The positions of the last id.
    pub(crate) fn positions(&self) -> Value {
        serde_json::from_str(&self.id).unwrap()
    }

    /// Sends bytes as they are, and answers whether the socket still takes any.
    pub(crate) async fn try_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes).await
    }
}
