//! A connection whose writes must get on.

use std::{
    future::Future,
    io::{Error, ErrorKind, IoSlice, Result},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::Connection;

/// Time in which a client has to take some of what waits for it.
pub(super) const WRITE_TIME: Duration = Duration::from_secs(30);

/// Reads and writes as what is inside does, and fails a write of which nothing was taken for 30 seconds: a client that
/// asks and does not read would otherwise keep its connection for ever. The timer runs only while a write waits. A
/// connection that [has left its listener's count](Connection::leave_count) is bounded by whoever took it out.
#[derive(Debug)]
pub struct BoundedWrites<T> {
    inner: T,
    connection: Connection,
    /// Made when a write waits for the first time; most connections need none.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<T> BoundedWrites<T> {
    pub(super) fn new(inner: T, connection: Connection) -> Self {
        Self {
            inner,
            connection,
            timer: None,
            waiting: false,
        }
    }

    /// What is inside, for who upgrades the connection.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }

    fn bound<R>(&mut self, context: &mut Context<'_>, written: Poll<Result<R>>) -> Poll<Result<R>> {
        if written.is_ready() || self.connection.has_left_count() {
            self.waiting = false;
            return written;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(WRITE_TIME)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + WRITE_TIME);
        }
        timer.as_mut().poll(context).map(|()| {
            Err(Error::new(
                ErrorKind::TimedOut,
                "the client takes none of its answers",
            ))
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for BoundedWrites<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for BoundedWrites<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.bound(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.bound(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::Semaphore,
        time::advance,
    };

    use super::*;

    fn pair() -> (BoundedWrites<DuplexStream>, DuplexStream, Connection) {
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let connection = Connection::new(slot);
        let (ours, theirs) = duplex(4);
        (BoundedWrites::new(ours, connection.clone()), theirs, connection)
    }

    // The clock moves when nothing else can happen, so each wait takes no time.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (mut ours, theirs, _) = pair();
        let began = Instant::now();
        ours.write_all(b"1234").await.unwrap();
        advance(10 * WRITE_TIME).await;
        let error = ours.write_all(b"56").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let waited = began.elapsed() - 10 * WRITE_TIME;
        assert!(waited >= WRITE_TIME && waited < 2 * WRITE_TIME, "{waited:?}");
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_little_is_not() {
        let (mut ours, mut theirs, _) = pair();
        let slowly = async {
            let mut taken = Vec::new();
            for _ in 0..10 {
                advance(WRITE_TIME - Duration::from_secs(1)).await;
                taken.push(theirs.read_u8().await.unwrap());
            }
            taken
        };
        let (written, taken) = tokio::join!(ours.write_all(b"0123456789abcd"), slowly);
        written.unwrap();
        assert_eq!(taken, b"0123456789");
        // What ran when the last write was taken counts for no other.
        let more = async {
            advance(WRITE_TIME - Duration::from_secs(1)).await;
            theirs.read_u8().await.unwrap()
        };
        let (written, _) = tokio::join!(ours.write_all(b"e"), more);
        written.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_lasts_is_bounded_elsewhere() {
        let (mut ours, mut theirs, connection) = pair();
        connection.leave_count();
        let late = async {
            advance(20 * WRITE_TIME).await;
            let mut taken = [0; 6];
            theirs.read_exact(&mut taken).await.unwrap();
            taken
        };
        let (written, taken) = tokio::join!(ours.write_all(b"123456"), late);
        written.unwrap();
        assert_eq!(&taken, b"123456");
    }
}
