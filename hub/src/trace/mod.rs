//! Live traces: what was published to a user or a topic, to whom it went, and why not.
//!
//! Without a trace all that is left of this is one relaxed load for each message. With one, whoever delivers puts lines into
//! the trace's bounded queue and never waits; lines without room are counted, and the reader is told how many.

mod line;

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use bytes::Bytes;
use common::{ids::NodeId, message::Message, receipts::Reader, topic::TopicKey};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(crate) use self::line::{Line, Why};
use crate::{interest::Wish, registry::Workers};

/// Lines that may wait for the reader of a trace.
const QUEUE: usize = 1024;

/// What is traced: a user, a topic, or what a topic is to a user.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The user's own topic.
    pub(crate) user: Option<TopicKey>,
    /// The topic.
    pub(crate) topic: Option<TopicKey>,
    /// The worker that has the user's sessions.
    pub(crate) worker: usize,
}

/// One trace that runs.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) subject: Subject,
    payload: bool,
    /// This node, which every line names.
    node: NodeId,
    /// Its reader is at another node, which sees by itself what is published and where nobody is.
    pub(crate) for_another: bool,
    lines: mpsc::Sender<Bytes>,
    dropped: AtomicU64,
}

impl Trace {
    /// Puts a line before the reader, if there is room.
    pub(crate) fn put(&self, line: &Line<'_>) {
        let line = line.clone().at(self.node.as_str());
        if self.lines.try_send(line.to_bytes()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The message as it came.
    pub(crate) fn put_published(&self, message: &Message) {
        self.put(&Line::published(message, self.payload));
    }

    /// Lines without room since this was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Whether the message is on the traced topic; every topic is where only a user is traced.
    pub(crate) fn is_on(&self, key: &TopicKey) -> bool {
        self.subject.topic.as_ref().is_none_or(|topic| topic == key)
    }

    fn is_of(&self, reader: &Reader) -> bool {
        self.subject
            .user
            .as_ref()
            .is_none_or(|user| reader.keys.first() == Some(user))
    }
}

/// All traces of a node.
#[derive(Debug)]
pub(crate) struct Traces {
    on: AtomicBool,
    running: RwLock<Arc<[Arc<Trace>]>>,
    node: NodeId,
    most: usize,
    wishes: mpsc::Sender<Wish>,
    /// How many run.
    count: Gauge<i64, AtomicI64>,
    end: CancellationToken,
}

impl Traces {
    /// At most so many at once, of this node's.
    pub(crate) fn new(
        node: NodeId,
        most: usize,
        wishes: mpsc::Sender<Wish>,
        count: Gauge<i64, AtomicI64>,
    ) -> Self {
        Self {
            on: AtomicBool::new(false),
            running: RwLock::new(Arc::new([])),
            node,
            most,
            wishes,
            count,
            end: CancellationToken::new(),
        }
    }

    /// Whether anything is traced. Whoever is asked for each message asks this first.
    #[inline]
    pub(crate) fn on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(crate) fn running(&self) -> Arc<[Arc<Trace>]> {
        Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends all traces, and lets none begin: the node stops.
    pub(crate) fn end(&self) {
        self.end.cancel();
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Trace>>) -> bool) -> bool {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        let mut list = running.to_vec();
        let changed = change(&mut list);
        self.on.store(!list.is_empty(), Ordering::Relaxed);
        self.count.set(i64::try_from(list.len()).unwrap_or(i64::MAX));
        *running = list.into();
        changed
    }

    /// Begins a trace. The node subscribes to what is traced, so that messages are seen also while nobody here has the
    /// topic. None when there are as many as there may be.
    pub(crate) async fn begin(self: &Arc<Self>, subject: Subject, payload: bool) -> Option<Tracing> {
        let watched = subject.topic.clone().or_else(|| subject.user.clone());
        // From here on the handle ends the trace, also when the caller goes away while it waits.
        let mut tracing = self.begin_unwatched(subject, payload, false)?;
        if let Some(key) = watched {
            let (confirmed, done) = oneshot::channel();
            let wish = Wish::Watch {
                key: key.clone(),
                confirmed,
            };
            tracing.watched = Some(key);
            if self.wishes.send(wish).await.is_ok() {
                // A bus that cannot confirm now shows what sessions here get all the same.
                done.await.ok();
            }
        }
        Some(tracing)
    }

    /// Begins a trace whose reader is at another node. Who asks bounds their number.
    pub(crate) fn begin_for_another(self: &Arc<Self>, subject: Subject, payload: bool) -> Option<Tracing> {
        self.begin_unwatched(subject, payload, true)
    }

    fn begin_unwatched(
        self: &Arc<Self>,
        subject: Subject,
        payload: bool,
        for_another: bool,
    ) -> Option<Tracing> {
        let (sender, lines) = mpsc::channel(QUEUE);
        let trace = Arc::new(Trace {
            subject,
            payload,
            node: self.node.clone(),
            for_another,
            lines: sender,
            dropped: AtomicU64::new(0),
        });
        let began = self.change(|list| {
            let own = list.iter().filter(|trace| !trace.for_another).count();
            let room = (for_another || own < self.most) && !self.end.is_cancelled();
            if room {
                list.push(Arc::clone(&trace));
            }
            room
        });
        began.then(|| Tracing {
            trace,
            traces: Arc::clone(self),
            lines,
            watched: None,
        })
    }

    /// A message arrived at the node, for these workers.
    pub(crate) fn arrived(&self, message: &Message, workers: Workers) {
        for trace in self.running().iter() {
            let subject = &trace.subject;
            let watched = subject.topic.as_ref().or(subject.user.as_ref());
            if trace.for_another || watched != Some(&message.key) {
                continue;
            }
            trace.put_published(message);
            let nobody = match &subject.user {
                Some(_) => workers.iter().all(|worker| worker != subject.worker),
                None => workers.is_empty(),
            };
            if nobody {
                let why = if subject.topic.is_some() {
                    Why::NotSubscribed
                } else {
                    Why::NotConnected
                };
                trace.put(&Line::nobody(message, why));
            }
        }
    }

    /// Something happened to a message on its way to a session.
    pub(crate) fn message(&self, event: &'static str, message: &Message, reader: &Reader) {
        for trace in self.running().iter() {
            if trace.is_on(&message.key) && trace.is_of(reader) {
                trace.put(&Line::message(event, message).of(reader));
            }
        }
    }

    /// Something happened to a session; only traces of its user are told.
    pub(crate) fn session(&self, event: &'static str, reader: &Reader, reason: Option<&'static str>) {
        for trace in self.running().iter() {
            if trace.subject.user.is_some() && trace.is_of(reader) {
                trace.put(&Line::event(event).of(reader).because(reason));
            }
        }
    }
}

/// A trace as its reader holds it; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Tracing {
    trace: Arc<Trace>,
    traces: Arc<Traces>,
    lines: mpsc::Receiver<Bytes>,
    watched: Option<TopicKey>,
}

/// Puts lines before a trace's reader that were not seen here.
#[derive(Debug)]
pub(crate) struct Feed(Arc<Trace>);

impl Feed {
    /// Lines of another node, each with its end.
    pub(crate) fn put_lines(&self, lines: Bytes) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        if self.0.lines.try_send(lines).is_err() {
            self.drop_lines(count as u64);
        }
    }

    /// So many could not be put before the reader.
    pub(crate) fn drop_lines(&self, count: u64) {
        self.0.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

/// What a reader gets next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Lines.
    Lines(Bytes),
    /// The node stops.
    Stopping,
}

impl Tracing {
    pub(crate) fn subject(&self) -> &Subject {
        &self.trace.subject
    }

    /// By which other nodes' lines come to the reader.
    pub(crate) fn feed(&self) -> Feed {
        Feed(Arc::clone(&self.trace))
    }

    /// The next line, with how many were dropped before it.
    pub(crate) async fn next(&mut self) -> Next {
        let line = tokio::select! {
            biased;
            () = self.traces.end.cancelled() => return Next::Stopping,
            // The sender lives as long as this.
            line = self.lines.recv() => line.unwrap_or_default(),
        };
        match self.trace.take_dropped() {
            0 => Next::Lines(line),
            count => {
                let dropped = Line::dropped(count).at(self.trace.node.as_str()).to_bytes();
                Next::Lines([dropped, line].concat().into())
            }
        }
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        self.traces.change(|list| {
            list.retain(|other| !Arc::ptr_eq(other, &self.trace));
            true
        });
        if let Some(key) = self.watched.take() {
            let wishes = self.traces.wishes.clone();
            // Without a runtime the whole process ends.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    wishes.send(Wish::Unwatch { key }).await.ok();
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use common::{
        ids::{MessageId, Name, TenantId},
        message::{FrameKind, Header},
    };

    use super::*;

    fn traces(most: usize) -> (Arc<Traces>, mpsc::Receiver<Wish>) {
        let (wishes, wished) = mpsc::channel(16);
        (
            Arc::new(Traces::new(
                NodeId::new("n").unwrap(),
                most,
                wishes,
                Gauge::default(),
            )),
            wished,
        )
    }

    fn message(key: &TopicKey) -> Message {
        Message {
            key: key.clone(),
            position: None,
            header: Header::new(MessageId::generate(), FrameKind::Message),
            payload: Bytes::from_static(br#"{"data":"secret"}"#),
        }
    }

    async fn begin(traces: &Arc<Traces>, wished: &mut mpsc::Receiver<Wish>, payload: bool) -> Tracing {
        let subject = Subject {
            user: None,
            topic: Some(topic()),
            worker: 0,
        };
        let (tracing, ()) = tokio::join!(traces.begin(subject, payload), async {
            match wished.recv().await {
                Some(Wish::Watch { confirmed, .. }) => confirmed.send(()).unwrap(),
                other => panic!("{other:?}"),
            }
        });
        tracing.unwrap()
    }

    fn topic() -> TopicKey {
        TopicKey::topic(&TenantId::new("t").unwrap(), &Name::new("a").unwrap())
    }

    async fn line(tracing: &mut Tracing) -> String {
        match tracing.next().await {
            Next::Lines(line) => String::from_utf8(line.to_vec()).unwrap(),
            Next::Stopping => panic!("it stopped"),
        }
    }

    #[tokio::test]
    async fn they_are_bounded_and_off_when_the_last_has_gone() {
        let (traces, mut wished) = traces(2);
        assert!(!traces.on());
        let first = begin(&traces, &mut wished, false).await;
        let second = begin(&traces, &mut wished, false).await;
        assert!(traces.on());
        let subject = first.trace.subject.clone();
        assert!(traces.begin(subject.clone(), false).await.is_none());
        drop(first);
        assert!(matches!(wished.recv().await, Some(Wish::Unwatch { .. })));
        assert!(traces.on());
        let mut third = begin(&traces, &mut wished, false).await;
        drop(second);
        traces.end();
        assert!(matches!(third.next().await, Next::Stopping));
        drop(third);
        assert!(!traces.on());
        assert!(traces.begin(subject, false).await.is_none(), "the node stops");
    }

    #[tokio::test]
    async fn a_payload_is_shown_only_where_asked_for() {
        let (traces, mut wished) = traces(2);
        let mut without = begin(&traces, &mut wished, false).await;
        let mut with = begin(&traces, &mut wished, true).await;
        traces.arrived(&message(&topic()), Workers::default());
        traces.arrived(&message(&TopicKey::everyone()), Workers::default());
        let shown = line(&mut with).await;
        assert!(shown.contains(r#""data":{"data":"secret"}"#), "{shown}");
        let hidden = line(&mut without).await;
        assert!(
            hidden.contains("published") && !hidden.contains("secret"),
            "{hidden}"
        );
        let why = line(&mut without).await;
        assert!(why.contains(r#""reason":"not_subscribed""#), "{why}");
        assert!(without.lines.is_empty(), "the other topic is not traced");
    }

    #[tokio::test]
    async fn lines_without_room_are_counted_and_told() {
        let (traces, mut wished) = traces(1);
        let mut tracing = begin(&traces, &mut wished, false).await;
        let message = message(&topic());
        for _ in 0..QUEUE {
            traces.arrived(&message, Workers::default());
        }
        let first = line(&mut tracing).await;
        let told = first.lines().next().unwrap();
        assert_eq!(
            told,
            format!(r#"{{"event":"dropped","count":{QUEUE},"node":"n"}}"#)
        );
        assert!(!line(&mut tracing).await.contains("dropped"));
    }

    #[tokio::test]
    async fn lines_of_other_nodes_are_bounded_too() {
        let (traces, mut wished) = traces(1);
        let mut tracing = begin(&traces, &mut wished, false).await;
        let feed = tracing.feed();
        let two = Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n");
        for _ in 0..QUEUE + 3 {
            feed.put_lines(two.clone());
        }
        feed.drop_lines(5);
        let first = line(&mut tracing).await;
        let told = first.lines().next().unwrap();
        assert_eq!(told, r#"{"event":"dropped","count":11,"node":"n"}"#);
        assert_eq!(line(&mut tracing).await.as_bytes(), two);
        // Another node's trace takes no place of this one's.
        let subject = tracing.subject().clone();
        let other = traces.begin_for_another(subject.clone(), false).unwrap();
        assert!(traces.begin(subject, false).await.is_none());
        traces.arrived(&message(&topic()), Workers::default());
        assert!(other.lines.is_empty(), "its own node sees what is published");
        assert!(!tracing.lines.is_empty());
    }
}
