//! From the bus to the workers: a message is encoded once for this node and handed to the workers that have members.
//! The task never blocks: a worker without room misses the message, which is counted, and heals from history.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{
    bus::{BusEvent, BusEvents},
    message::{FrameKind, Message},
    protocol::frame_parts,
};
use tokio::sync::{Notify, mpsc};

use crate::{metrics::HubMetrics, registry::Registry, trace::Traces, ws};

/// What goes wrong thousands of times in a second is logged so often.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// Events that one round takes.
const BATCH: usize = 256;

/// A message and the WebSocket frame that all its sessions on this node share.
#[derive(Debug)]
pub struct Outgoing {
    /// The message.
    pub message: Arc<Message>,
    /// Header and payload, unmasked, as it goes to every socket.
    pub frame: Bytes,
    /// The same, compressed: made when the first session wants it so; none where it would not be smaller.
    deflated: OnceLock<Option<Bytes>>,
}

impl Outgoing {
    /// Encodes a message for this node.
    #[must_use]
    pub fn new(message: Arc<Message>) -> Self {
        let (payload, tail) = frame_parts(&message);
        let frame = ws::encode_text(&[payload, &tail]);
        Self::framed(message, frame)
    }

    /// A message whose frame is another than its payload's.
    pub(crate) fn framed(message: Arc<Message>, frame: Bytes) -> Self {
        Self {
            message,
            frame,
            deflated: OnceLock::new(),
        }
    }

    /// Whether its time has passed.
    pub(crate) fn has_expired(&self) -> bool {
        let until = self.message.header.expires_at;
        until.is_some_and(|until| until <= jiff::Timestamp::now().as_millisecond())
    }

    /// The frame for a session: compressed where that was agreed, for payloads of at least so many bytes.
    pub(crate) fn frame_for(&self, wire: Wire, deflate_from: usize) -> &Bytes {
        if wire == Wire::Plain {
            return &self.frame;
        }
        let payload = ws::payload_of(&self.frame);
        if payload.len() < deflate_from {
            return &self.frame;
        }
        self.deflated
            .get_or_init(|| ws::encode_deflated(payload, &self.frame))
            .as_ref()
            .unwrap_or(&self.frame)
    }
}

/// How frames go to a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wire {
    /// As they are.
    #[default]
    Plain,
    /// permessage-deflate was agreed.
    Deflate,
}

/// The receiving side of a worker, as the task sees it.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) sender: mpsc::Sender<Arc<Outgoing>>,
    pub(crate) missed: Arc<Missed>,
}

/// Set when something was dropped on the way to a worker.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    flag: AtomicBool,
    wake: Notify,
}

impl Missed {
    pub(crate) fn set(&self) {
        self.flag.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether something was dropped, which is cleared.
    pub(crate) fn take_now(&self) -> bool {
        self.flag.swap(false, Ordering::AcqRel)
    }

    /// Waits until something was dropped, and clears it.
    pub(crate) async fn take(&self) {
        while !self.take_now() {
            self.wake.notified().await;
        }
    }
}

/// Runs until the bus ends or the hub stops.
pub(crate) async fn run(
    mut events: BusEvents,
    lanes: Vec<Lane>,
    registry: Arc<Registry>,
    metrics: HubMetrics,
    traces: Arc<Traces>,
    orders: mpsc::Sender<Arc<Message>>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let (mut said, mut dropped) = (None::<Instant>, 0);
    while events.next_batch(&mut batch, BATCH).await > 0 {
        let now = jiff::Timestamp::now().as_millisecond();
        for event in batch.drain(..) {
            match event {
                BusEvent::Message(message) if message.header.kind == FrameKind::Order => {
                    // Nodes say again what matters; the delivery path waits for none of it.
                    if orders.try_send(message).is_err() {
                        metrics.order_ignored("full");
                    }
                }
                BusEvent::Message(message) => {
                    let workers = registry.workers(&message.key);
                    if traces.on() {
                        traces.arrived(&message, workers);
                    }
                    if workers.is_empty() {
                        metrics.unwanted.inc();
                        continue;
                    }
                    metrics.messages.inc();
                    metrics.lag.observe(
                        f64::from(u32::try_from((now - message.header.at).max(0)).unwrap_or(u32::MAX))
                            / 1000.0,
                    );
                    let outgoing = Arc::new(Outgoing::new(message));
                    for lane in workers.iter().filter_map(|worker| lanes.get(worker)) {
                        if lane.sender.try_send(Arc::clone(&outgoing)).is_err() {
                            metrics.dropped.inc();
                            lane.missed.set();
                        }
                    }
                }
                BusEvent::Dropped(count) => {
                    metrics.dropped.inc_by(count);
                    dropped += count;
                    if said.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
                        tracing::warn!(
                            count = dropped,
                            "messages were dropped on the way to this node; healing from history"
                        );
                        said = Some(Instant::now());
                        dropped = 0;
                    }
                    lanes.iter().for_each(|lane| lane.missed.set());
                }
                BusEvent::Unsure => lanes.iter().for_each(|lane| lane.missed.set()),
            }
        }
    }
}
