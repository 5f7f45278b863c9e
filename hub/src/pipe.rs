//! A bounded pipe of bytes inside the process: what a socket's buffer in the kernel is to a WebSocket session, this is to
//! a session whose frames leave in an HTTP answer.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use common::{http::Connection, protocol::Command};
use tokio::sync::Notify;

/// Bytes that wait in a pipe at the most; beyond, frames wait in the session's outbound queue and count there.
const CAPACITY: usize = 64 * 1024;

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    /// Nothing more will be written.
    ended: bool,
    /// The reader has gone.
    abandoned: bool,
    reader: Option<Waker>,
    /// Waits for the reader to go.
    watcher: Option<Waker>,
}

impl State {
    /// Half of it is free, or it takes nothing any more.
    fn has_room(&self) -> bool {
        self.abandoned || self.ended || self.bytes.len() <= CAPACITY / 2
    }
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// There is room again, or the reader has gone.
    changed: Notify,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever panicked, bytes and flags are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct PipeWriter {
    inner: Arc<Inner>,
    /// What the request asked for: carried out right behind the welcome, as if the client had said it.
    commands: Mutex<Vec<Command>>,
    /// The connection of an answer that streams: a client that does not read is hung up on in the end.
    connection: Option<Connection>,
}

/// The HTTP answer's end. Dropping it tells the worker that the client has gone.
#[derive(Debug)]
pub(crate) struct PipeReader {
    inner: Arc<Inner>,
}

/// A pipe whose session begins with these commands.
pub(crate) fn pipe(commands: Vec<Command>, connection: Option<Connection>) -> (PipeWriter, PipeReader) {
    let inner = Arc::new(Inner::default());
    let writer = PipeWriter {
        inner: Arc::clone(&inner),
        commands: Mutex::new(commands),
        connection,
    };
    (writer, PipeReader { inner })
}

impl PipeWriter {
    /// Takes as much as there is room for.
    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.inner.state();
        if state.abandoned || state.ended {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let before = state.bytes.len();
        for slice in slices {
            let room = CAPACITY - state.bytes.len();
            state.bytes.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let written = state.bytes.len() - before;
        if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(written)
    }

    /// Waits until half of it is free, or it takes nothing any more.
    pub(crate) async fn writable(&self) {
        loop {
            let changed = self.inner.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change falls between.
            changed.as_mut().enable();
            if self.inner.state().has_room() {
                return;
            }
            changed.await;
        }
    }

    /// Whether the reader has gone; one task may wait for it.
    pub(crate) fn poll_abandoned(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.inner.state();
        if state.abandoned {
            return Poll::Ready(());
        }
        state.watcher = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ends the pipe; what is in it can still be read. With `at_once`, a reader that is still there has had its time: it
    /// reads nothing, and its connection is ended.
    pub(crate) fn end(&self, at_once: bool) {
        let mut state = self.inner.state();
        state.ended = true;
        let late = at_once && !state.abandoned;
        if late {
            state.bytes = BytesMut::new();
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        self.inner.changed.notify_waiters();
        if late && let Some(connection) = &self.connection {
            connection.hang_up();
        }
    }

    /// What the session begins with; empty the second time.
    pub(crate) fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl PipeReader {
    /// Takes all bytes there are; none when the pipe has ended and is empty.
    pub(crate) fn poll_take(&self, context: &Context<'_>) -> Poll<Option<BytesMut>> {
        let mut state = self.inner.state();
        if !state.bytes.is_empty() {
            // The memory goes with the bytes: an idle session keeps none.
            let taken = std::mem::take(&mut state.bytes);
            drop(state);
            self.inner.changed.notify_waiters();
            return Poll::Ready(Some(taken));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        state.abandoned = true;
        state.bytes = BytesMut::new();
        let watcher = state.watcher.take();
        drop(state);
        if let Some(watcher) = watcher {
            watcher.wake();
        }
        self.inner.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn take(reader: &PipeReader) -> Option<BytesMut> {
        poll_fn(|context| reader.poll_take(context)).await
    }

    fn write(writer: &PipeWriter, bytes: &[u8]) -> io::Result<usize> {
        writer.try_write(&[IoSlice::new(bytes)])
    }

    #[tokio::test]
    async fn a_full_pipe_blocks_until_it_is_read() {
        let (writer, reader) = pipe(Vec::new(), None);
        let large = vec![1; CAPACITY + 1];
        assert_eq!(write(&writer, &large).unwrap(), CAPACITY);
        assert_eq!(write(&writer, &[1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(write(&writer, &[]).unwrap(), 0);
        let (taken, ()) = tokio::join!(take(&reader), writer.writable());
        assert_eq!(taken.unwrap().len(), CAPACITY);
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b"c")];
        assert_eq!(writer.try_write(&parts).unwrap(), 3);
        assert_eq!(&take(&reader).await.unwrap()[..], b"abc");
    }

    #[tokio::test]
    async fn its_end_comes_behind_what_is_in_it() {
        let (writer, reader) = pipe(Vec::new(), None);
        write(&writer, b"last").unwrap();
        writer.end(false);
        assert_eq!(write(&writer, b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(&take(&reader).await.unwrap()[..], b"last");
        assert_eq!(take(&reader).await, None);
        // A worker that has ended leaves no reader waiting.
        let (writer, reader) = pipe(Vec::new(), None);
        let (taken, ()) = tokio::join!(take(&reader), async { drop(writer) });
        assert_eq!(taken, None);
    }

    #[tokio::test]
    async fn a_reader_that_goes_is_noticed() {
        let (writer, reader) = pipe(vec![Command::Ping], None);
        assert_eq!(writer.take_commands(), [Command::Ping]);
        assert_eq!(writer.take_commands(), []);
        write(&writer, &[1; CAPACITY]).unwrap();
        let abandoned = poll_fn(|context| writer.poll_abandoned(context));
        let waiting = async { tokio::join!(abandoned, writer.writable()) };
        tokio::join!(waiting, async { drop(reader) });
        assert_eq!(write(&writer, b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
