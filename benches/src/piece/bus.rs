//! The bus in memory.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use common::bus::{Bus, BusEvents, BusLimits, MemoryBus, Subscriptions};
use tokio::runtime::Runtime;

use super::{Row, Step, Work};
use crate::{publication, rng, user_key};

/// Topics that are published to in turn.
const TOPICS: u32 = 1000;

/// Messages that a topic's history has, and those that a reader asks for.
const HISTORY: usize = 256;
const READ: usize = 100;

pub(super) const PIECES: [Row; 5] = [
    ("bus/publish, nobody there", 1, |_| publish(0, false)),
    ("bus/publish, one node", 1, |_| publish(1, false)),
    ("bus/publish with history, one node", 1, |_| publish(1, true)),
    ("bus/publish with history, three nodes", 1, |_| publish(3, true)),
    ("bus/history, a message read", READ as u64, history),
];

/// Ends a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the in-process bus does not wait"),
    }
}

fn bus() -> Bus {
    Bus::Memory(MemoryBus::new(BusLimits {
        count: HISTORY,
        ..BusLimits::default()
    }))
}

fn subscribed(bus: &Bus) -> (Subscriptions, BusEvents) {
    let (subscriptions, events) = bus.attach(1024);
    let keys: Vec<_> = (0..TOPICS).map(user_key).collect();
    now(subscriptions.subscribe(&keys)).expect("the in-process bus is always there");
    (subscriptions, events)
}

/// To published, and received by each node.
fn publish(nodes: usize, history: bool) -> Work {
    let bus = bus();
    let mut nodes: Vec<_> = (0..nodes).map(|_| subscribed(&bus)).collect();
    let mut rng = rng();
    let mut batch = Vec::new();
    let mut next = None;
    Box::new(move |step| match step {
        Step::Prepare => {
            batch.clear();
            next = Some(publication(rng.u32(..TOPICS), history));
        }
        Step::Run => {
            let Some(publication) = next.take() else { return };
            now(bus.publish(publication)).expect("the in-process bus is always there");
            for (_, events) in &mut nodes {
                now(events.next_batch(&mut batch, 64));
            }
        }
    })
}

fn history(_: &Runtime) -> Work {
    let bus = bus();
    for _ in 0..HISTORY {
        now(bus.publish(publication(1, true))).expect("the in-process bus is always there");
    }
    let key = user_key(1);
    let after = (HISTORY - READ) as u64;
    Box::new(move |step| {
        if step == Step::Run {
            let read = now(bus.history(&key, after, READ)).expect("the in-process bus is always there");
            assert_eq!(read.messages.len(), READ);
        }
    })
}
