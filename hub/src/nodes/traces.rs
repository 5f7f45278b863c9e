//! Live traces over all nodes: the one that an operator asks tells the others what is traced and until when, and they send
//! what they see of it, in batches.
//!
//! A node helps as long as the trace runs: until it is told that it ended, until its time is over, or until the node that asked
//! has gone. Nodes that come meanwhile are told when they are heard. Without a trace nothing of this does anything.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::{ids::NodeId, topic::TopicKey};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    Nodes,
    order::{Order, TraceLines, TraceOrder},
};
use crate::trace::{Feed, Line, Next, Subject, Tracing};

/// Traces of other nodes that this one helps with at once.
const HELPED: usize = 16;

/// Bytes of lines that go together, and for how long the first waits for others.
const BATCH_BYTES: usize = 32 * 1024;
const BATCH_TIME: Duration = Duration::from_millis(20);

/// A trace of this node's that the others know of; when it is dropped, they are told that it ended.
#[derive(Debug)]
pub(crate) struct Told {
    nodes: Arc<Nodes>,
    id: u64,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.nodes.tracings.own().remove(&self.id);
        let order = Order::TraceEnd(self.id);
        // Where it finds no room, they end by the time.
        self.nodes.post.try_send((TopicKey::nodes(), order)).ok();
    }
}

/// A trace that runs here.
#[derive(Debug)]
struct Running {
    order: TraceOrder,
    until: Instant,
    feed: Feed,
}

/// Traces of this node, and of others.
#[derive(Debug, Default)]
pub(super) struct Tracings {
    own: Mutex<HashMap<u64, Running>>,
    helped: Mutex<HashMap<(NodeId, u64), CancellationToken>>,
}

impl Tracings {
    fn own(&self) -> MutexGuard<'_, HashMap<u64, Running>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn helped(&self) -> MutexGuard<'_, HashMap<(NodeId, u64), CancellationToken>> {
        self.helped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node ended a trace.
    pub(super) fn end(&self, node: &NodeId, id: u64) {
        if let Some(helped) = self.helped().get(&(node.clone(), id)) {
            helped.cancel();
        }
    }

    /// A node has gone, and nobody reads its traces.
    pub(super) fn end_all_of(&self, node: &NodeId) {
        for ((of, _), helped) in &*self.helped() {
            if of == node {
                helped.cancel();
            }
        }
    }

    /// Another node saw this.
    pub(super) fn saw(&self, seen: TraceLines) {
        if let Some(running) = self.own().get(&seen.id) {
            running.feed.put_lines(seen.lines.into());
        }
    }

    /// Notes that a trace is helped with; none where it is already, or where there are too many.
    fn begin(&self, node: &NodeId, id: u64) -> Result<CancellationToken, Refused> {
        let mut helped = self.helped();
        if helped.contains_key(&(node.clone(), id)) {
            return Err(Refused::Known);
        }
        if helped.len() >= HELPED {
            return Err(Refused::Full);
        }
        let end = CancellationToken::new();
        helped.insert((node.clone(), id), end.clone());
        Ok(end)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Known,
    Full,
}

impl Nodes {
    /// Tells the others of a trace, for as long as what this gives is kept.
    pub(crate) fn tell_trace(self: &Arc<Self>, tracing: &Tracing, payload: bool, until: Instant) -> Told {
        let id = fastrand::u64(..);
        let subject = tracing.subject();
        let running = Running {
            order: TraceOrder {
                id,
                user: subject.user.clone(),
                topic: subject.topic.clone(),
                payload,
                for_ms: 0,
            },
            until,
            feed: tracing.feed(),
        };
        let order = running.order_now();
        self.tracings.own().insert(id, running);
        self.post.try_send((TopicKey::nodes(), order)).ok();
        Told {
            nodes: Arc::clone(self),
            id,
        }
    }

    /// Tells a node that has just come what is traced here.
    pub(super) fn tell_traces_to(&self, node: &NodeId) {
        for running in self.tracings.own().values() {
            let order = running.order_now();
            self.post.try_send((TopicKey::node(node), order)).ok();
        }
    }

    /// Helps another node with its trace, until that ends.
    pub(super) async fn help(self: Arc<Self>, from: NodeId, order: TraceOrder) {
        let end = match self.tracings.begin(&from, order.id) {
            Ok(end) => end,
            Err(Refused::Known) => return,
            Err(Refused::Full) => {
                self.refuse_trace(&from, order.id).await;
                return;
            }
        };
        let until = Instant::now() + Duration::from_millis(u64::from(order.for_ms));
        let key = (from, order.id);
        let subject = Subject {
            worker: order.user.as_ref().map_or(0, |user| self.desk.own().home(user)),
            user: order.user,
            topic: order.topic,
        };
        if let Some(mut tracing) = self.desk.own().traces().begin_for_another(subject, order.payload) {
            tokio::select! {
                () = end.cancelled() => {}
                () = self.ended.cancelled() => {}
                () = sleep_until(until) => {}
                () = self.send_lines(&key, &mut tracing) => {}
            }
        }
        self.tracings.helped().remove(&key);
    }

    /// Sends what is seen until this node stops.
    async fn send_lines(&self, (to, id): &(NodeId, u64), tracing: &mut Tracing) {
        while let Next::Lines(first) = tracing.next().await {
            let mut lines = Vec::from(first);
            let wait = Instant::now() + BATCH_TIME;
            while lines.len() < BATCH_BYTES
                && let Ok(Next::Lines(more)) = timeout_at(wait, tracing.next()).await
            {
                lines.extend_from_slice(&more);
            }
            let count = lines.iter().filter(|byte| **byte == b'\n').count();
            // Lines are made of texts.
            let lines = String::from_utf8(lines).unwrap_or_default();
            let order = Order::TraceLines(Box::new(TraceLines { id: *id, lines }));
            if self.publish(TopicKey::node(to), &order).await.is_none() {
                tracing.feed().drop_lines(count as u64);
            }
        }
    }

    async fn refuse_trace(&self, to: &NodeId, id: u64) {
        let line = Line::refused(self.node.as_str()).to_bytes();
        let lines = String::from_utf8_lossy(&line).into_owned();
        let order = Order::TraceLines(Box::new(TraceLines { id, lines }));
        self.publish(TopicKey::node(to), &order).await;
    }
}

impl Running {
    fn order_now(&self) -> Order {
        let left = self.until.saturating_duration_since(Instant::now());
        Order::Trace(Box::new(TraceOrder {
            for_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            ..self.order.clone()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_of_others_are_bounded_and_end() {
        let tracings = Tracings::default();
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let ends: Vec<CancellationToken> = (0..HELPED as u64)
            .map(|id| tracings.begin(if id < 4 { &a } else { &b }, id).unwrap())
            .collect();
        assert_eq!(tracings.begin(&a, 1).unwrap_err(), Refused::Known);
        assert_eq!(tracings.begin(&b, 1).unwrap_err(), Refused::Full);
        tracings.end(&a, 1);
        tracings.end(&b, 2);
        let cancelled = || {
            let ended = ends.iter().enumerate().filter(|(_, end)| end.is_cancelled());
            ended.map(|(id, _)| id).collect::<Vec<_>>()
        };
        assert_eq!(cancelled(), [1], "the other is not of b");
        tracings.end_all_of(&a);
        assert_eq!(cancelled(), [0, 1, 2, 3]);
    }
}
