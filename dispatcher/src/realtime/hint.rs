//! Hints to open sockets: what changed, and how many are unread. At most once: the change feed has it anyway.

use bytes::Bytes;
use common::{
    bus::Publication,
    ids::{MessageId, NotificationId},
    message::{FrameKind, Header},
    target::Except,
    topic::TopicKey,
};

use super::{
    Realtime, Waiter,
    frame::{changed, unread},
};

impl Realtime {
    /// Tells all sessions of a user the unread count.
    pub(crate) fn publish_unread(&self, user: &TopicKey, count: u64) {
        let payload = unread(count);
        self.publish_hint(user, FrameKind::Unread, payload, None);
    }

    /// Tells the user's other sessions what changed.
    pub(crate) fn publish_changed(
        &self,
        user: &TopicKey,
        ids: Option<&[NotificationId]>,
        state: &'static str,
        session: Option<&str>,
    ) {
        let payload = changed(ids, state);
        self.publish_hint(user, FrameKind::Changed, payload, session);
    }

    /// At most once: the change feed has it anyway.
    fn publish_hint(&self, user: &TopicKey, kind: FrameKind, payload: Bytes, session: Option<&str>) {
        let mut header = Header::new(MessageId::generate(), kind);
        header.except = Except {
            session: session.map(str::to_owned),
            ..Except::default()
        };
        let publication = Publication {
            key: user.clone(),
            header,
            payload,
            history: false,
            idempotency_key: None,
        };
        if self.0.outbox.put(Waiter::Hint(Box::new(publication))).is_err() {
            tracing::debug!("a hint finds no room before the bus");
        }
    }
}
