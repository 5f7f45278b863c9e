//! The reading side of a session: one small task that waits for the socket and owns no buffer while it waits.
//!
//! Commands go to the session's worker; receipts go to the dispatcher's stream from here, so that a dispatcher that is
//! slow holds up the socket that sends them and nothing else.

use std::{cell::RefCell, future::poll_fn, io::ErrorKind, sync::Arc, time::Duration};

use common::{
    protocol::{Close, Command, ReadWhat},
    receipts::Receipt,
};
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};

use super::{Control, Input, SessionId, Shared, Transport, Who};
use crate::{
    ceilings::Ceilings,
    receipts::Receipts,
    receive::Wire,
    ws::{Event, Parser},
};

/// A pong is mostly the answer to a ping of ours: a burst of notifications that ask for receipts must not use up what the
/// client itself may send.
const PONG_COST: f64 = 1.0 / 64.0;

/// Each frame costs a part of a message, so that one message may come in many fragments, but not in endlessly many.
const FRAME_COST: f64 = 1.0 / 32.0;

/// Bytes that one read takes. The buffer belongs to the thread, not to the session.
const READ: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// What all readers of a worker share.
#[derive(Debug)]
pub(crate) struct Feed {
    controls: mpsc::Sender<Control>,
    receipts: Receipts,
    max_message: usize,
    ceilings: Arc<Ceilings>,
    began: Instant,
}

impl Feed {
    pub(crate) fn new(controls: mpsc::Sender<Control>, shared: &Shared) -> Self {
        Self {
            controls,
            receipts: shared.receipts.clone(),
            max_message: shared.config.max_message.0,
            ceilings: Arc::clone(&shared.ceilings),
            began: Instant::now(),
        }
    }

    /// Messages a second that a session may send.
    fn rate(&self) -> f64 {
        f64::from(self.ceilings.inbound())
    }

    /// The readers' clock in milliseconds: a small one. It begins again after seven weeks, of which a session that was
    /// silent for so long notices that its allowance is not quite full.
    fn now(&self) -> u32 {
        self.began.elapsed().as_millis() as u32
    }
}

struct Reader {
    id: SessionId,
    stream: Arc<Transport>,
    who: Arc<Who>,
    wire: Wire,
    feed: Arc<Feed>,
    /// Only within a frame or a fragmented message; between messages there is nothing to remember.
    parser: Option<Box<Parser>>,
    allowance: Allowance,
}

/// Messages that a session may send: a bucket that fills by a rate a second up to twice that.
#[derive(Debug)]
struct Allowance {
    /// Rounded to seven digits, which is enough and keeps the task within its block of memory.
    left: f32,
    /// Milliseconds of [`Feed::now`] when something was taken last.
    at: u32,
}

impl Allowance {
    fn new(rate: f64, now: u32) -> Self {
        Self {
            left: (rate * 2.0) as f32,
            at: now,
        }
    }

    /// Takes one message, or a part of one; false when nothing is left.
    fn take(&mut self, rate: f64, cost: f64, now: u32) -> bool {
        let filled = f64::from(now.wrapping_sub(self.at)) / 1000.0 * rate;
        self.at = now;
        self.left = ((f64::from(self.left) + filled).min(rate * 2.0) - cost) as f32;
        self.left >= 0.0
    }
}

/// Begins to read for a session; the task ends with the connection or by its handle.
pub(crate) fn spawn(
    id: SessionId,
    stream: Arc<Transport>,
    who: Arc<Who>,
    wire: Wire,
    early: Vec<u8>,
    feed: &Arc<Feed>,
) -> AbortHandle {
    let reader = Reader {
        id,
        stream,
        who,
        wire,
        feed: Arc::clone(feed),
        parser: None,
        allowance: Allowance::new(feed.rate(), feed.now()),
    };
    tokio::spawn(reader.run(early)).abort_handle()
}

impl Reader {
    /// A future rather than an `async fn`, which would keep its arguments twice.
    fn run(mut self, early: Vec<u8>) -> impl Future<Output = ()> + Send {
        let mut early = Some(early).filter(|early| !early.is_empty()).map(Box::new);
        async move {
            if let Some(mut early) = early.take() {
                let (inputs, open) = self.parse(&mut early);
                drop(early);
                if !Box::pin(self.hand_over(inputs)).await || !open {
                    Box::pin(self.drain()).await;
                    return;
                }
            }
            loop {
                // Polled rather than `readable()`, whose future is larger than all else here together.
                let readable = poll_fn(|context| self.stream.poll_read_ready(context));
                if readable.await.is_err() {
                    break;
                }
                let (inputs, open) = match self.read() {
                    Ok(read) => read,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(_) => break,
                };
                // Boxed, so that the task is as small as waiting for the socket needs, and not as what it does at times.
                if !inputs.is_empty() && !Box::pin(self.hand_over(inputs)).await {
                    return;
                }
                if !open {
                    Box::pin(self.drain()).await;
                    return;
                }
                // A socket that never runs dry must not keep the thread from all others.
                tokio::task::yield_now().await;
            }
            Box::pin(self.tell(Input::Gone)).await;
        }
    }

    /// Takes what the socket has. No await in here: the buffer is shared by all sessions of the thread.
    fn read(&mut self) -> std::io::Result<(Vec<Input>, bool)> {
        BUFFER.with_borrow_mut(|buffer| {
            let taken = self.stream.try_read(buffer)?;
            if taken == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            Ok(self.parse(&mut buffer[..taken]))
        })
    }

    /// What the bytes say, and whether more may follow.
    fn parse(&mut self, bytes: &mut [u8]) -> (Vec<Input>, bool) {
        let mut inputs = Vec::new();
        let mut open = true;
        let now = self.feed.now();
        let rate = self.feed.rate();
        let allowance = &mut self.allowance;
        let mut parser = self.parser.take().map_or_else(
            || Parser::new(self.feed.max_message).with_deflate(self.wire == Wire::Deflate),
            |parser| *parser,
        );
        let parsed = parser.feed(bytes, |event| {
            if !open {
                return;
            }
            let cost = match event {
                Event::Close { .. } => 0.0,
                Event::Pong(_) => PONG_COST,
                _ => 1.0,
            };
            if !allowance.take(rate, cost, now) {
                inputs.push(Input::Violation(Close::RateLimited, Close::RateLimited.text()));
                open = false;
                return;
            }
            inputs.push(match event {
                Event::Text(text) => Input::Command(Command::parse(text)),
                Event::Binary(_) => {
                    open = false;
                    Input::Violation(Close::Unsupported, Close::Unsupported.text())
                }
                Event::Ping(payload) => Input::Ping(payload.to_vec()),
                Event::Pong(payload) => Input::Pong(payload.to_vec()),
                Event::Close { code, .. } => {
                    open = false;
                    Input::Close(code)
                }
            });
        });
        let frames = f64::from(parser.take_frames());
        if !parser.is_idle() {
            self.parser = Some(Box::new(parser));
        }
        if open && parsed.is_ok() && !self.allowance.take(rate, frames * FRAME_COST, now) {
            inputs.push(Input::Violation(Close::RateLimited, Close::RateLimited.text()));
            open = false;
        }
        if let Err(violation) = parsed
            && open
        {
            let close = match violation.code() {
                1007 => Close::NotUtf8,
                1009 => Close::TooBig,
                _ => Close::Protocol,
            };
            inputs.push(Input::Violation(close, violation.reason()));
            open = false;
        }
        (inputs, open)
    }

    /// Hands inputs on in order; false when the worker has ended.
    async fn hand_over(&self, inputs: Vec<Input>) -> bool {
        for input in inputs {
            let reader = || self.who.reader.clone();
            match input {
                Input::Command(Ok(Command::Ack(ids))) => {
                    // The session lives on also where nobody takes it.
                    self.feed
                        .receipts
                        .wait(Receipt::Delivered {
                            reader: reader(),
                            ids,
                        })
                        .await;
                }
                Input::Command(Ok(Command::Read(ReadWhat::Ids(ids)))) => {
                    self.feed
                        .receipts
                        .wait(Receipt::Read {
                            reader: reader(),
                            ids,
                        })
                        .await;
                }
                Input::Command(Ok(Command::Read(ReadWhat::All))) => {
                    self.feed.receipts.wait(Receipt::read_all(reader())).await;
                }
                input => {
                    if !self.tell(input).await {
                        return false;
                    }
                }
            }
        }
        true
    }

    async fn tell(&self, input: Input) -> bool {
        self.feed
            .controls
            .send(Control::Input(self.id, input))
            .await
            .is_ok()
    }

    /// Reads and forgets until the other side ends, so that the close frame is not lost to a reset (RFC 1122 section
    /// 4.2.2.13). The worker drops the socket if that takes too long.
    async fn drain(self) {
        let limit = Instant::now() + Duration::from_secs(60);
        // Who still floods after its close gets a reset instead.
        let mut room: usize = 4 * 1024 * 1024;
        while Instant::now() < limit
            && poll_fn(|context| self.stream.poll_read_ready(context))
                .await
                .is_ok()
        {
            let read = BUFFER.with_borrow_mut(|buffer| self.stream.try_read(buffer));
            match read {
                Ok(0) => break,
                Ok(taken) if taken > room => break,
                Err(error) if error.kind() != ErrorKind::WouldBlock => break,
                read => {
                    room -= read.unwrap_or_default();
                    tokio::task::yield_now().await;
                }
            }
        }
        self.tell(Input::Gone).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiting_reader_is_small() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let reader = |stream| Reader {
            id: SessionId {
                slot: 0,
                generation: 0,
            },
            stream,
            wire: Wire::Plain,
            who: std::sync::Weak::<Who>::new().upgrade().unwrap(),
            feed: std::sync::Weak::<Feed>::new().upgrade().unwrap(),
            parser: None,
            allowance: Allowance::new(1.0, 0),
        };
        // Only the type is needed, never a value.
        fn size_of_output<A, F>(_: impl Fn(A) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_output(|stream: Arc<Transport>| reader(stream).run(Vec::new()));
        // The runtime adds some 120 bytes and rounds up to 128, so this is a block of 256.
        assert!(size <= 128, "{size}");
        drop(stream);
    }

    #[test]
    fn the_allowance_fills_with_time() {
        // The clock begins again in the middle.
        let mut now = u32::MAX - 100;
        let mut allowance = Allowance::new(10.0, now);
        for _ in 0..20 {
            assert!(allowance.take(10.0, 1.0, now));
        }
        assert!(!allowance.take(10.0, 1.0, now));
        now = now.wrapping_add(210);
        assert!(allowance.take(10.0, 1.0, now));
        assert!(!allowance.take(10.0, 1.0, now));
    }
}
