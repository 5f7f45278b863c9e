//! From an admitted handshake to a session: the socket goes to its worker.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use common::receipts::{Reader, Receipt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::admit::Admitted;
use crate::{
    Hub,
    worker::{NewSession, Transport, Who},
};

/// Makes a session of a socket whose handshake was answered. `early` is what the client sent behind it.
pub(super) async fn take_in(hub: &Hub, admitted: Admitted, stream: TcpStream, early: Vec<u8>) {
    forget_wakers(&stream);
    set_send_buffer(&stream, hub.inner.shared.config.send_buffer.0);
    begin(hub, admitted, stream.into(), early).await;
}

/// Makes a session of what its frames are written to.
pub(super) async fn begin(hub: &Hub, admitted: Admitted, stream: Transport, early: Vec<u8>) {
    let Admitted {
        identity,
        keys,
        seat,
        dialect,
        protocol: _,
        wire,
    } = admitted;
    let reader = Reader {
        tenant: seat.tenant().clone(),
        user: identity.user.clone(),
        session: Uuid::now_v7().simple().to_string().into(),
        keys,
    };
    // Keys that are new to a known user count from now.
    hub.inner.shared.receipts.hand_on(Receipt::Seen {
        reader: reader.clone(),
    });
    let who = Arc::new(Who::new(identity, reader));
    hub.hand_over(NewSession {
        stream,
        who,
        dialect,
        wire,
        early,
        seat,
    })
    .await;
}

/// The socket still knows the task that did the handshake as the one to wake, and so would keep that task's memory until
/// something arrives. Polling once with a waker that does nothing puts it out of there.
fn forget_wakers(stream: &TcpStream) {
    let mut context = Context::from_waker(Waker::noop());
    // What they say does not matter: the reader looks for itself.
    drop(stream.poll_read_ready(&mut context));
    drop(stream.poll_write_ready(&mut context));
}

fn set_send_buffer(stream: &TcpStream, bytes: usize) {
    if bytes > 0
        && let Err(error) = socket2::SockRef::from(stream).set_send_buffer_size(bytes)
    {
        tracing::debug!(%error, "the send buffer cannot be set");
    }
}
