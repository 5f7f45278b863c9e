//! The in-process bus: publishing where nobody, and where one node, wants the topic.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use benches::{publication, rng, user_key};
use common::bus::{Bus, BusEvents, MemoryBus, MemoryLimits, Subscriptions};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

/// Topics that are published to in turn.
const TOPICS: u32 = 1000;

/// Ends a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the in-process bus does not wait"),
    }
}

fn subscribed(bus: &Bus) -> (Subscriptions, BusEvents) {
    let (subscriptions, events) = bus.attach(1024);
    let keys: Vec<_> = (0..TOPICS).map(user_key).collect();
    now(subscriptions.subscribe(&keys)).expect("the in-process bus is always there");
    (subscriptions, events)
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bus/publish");
    for (name, history) in [("with history", true), ("without history", false)] {
        let bus = Bus::Memory(MemoryBus::new(MemoryLimits::default()));
        let mut rng = rng();
        group.bench_function(format!("{name}, no node"), |bencher| {
            bencher.iter_batched(
                || publication(rng.u32(..TOPICS), history),
                |publication| now(bus.publish(publication)),
                BatchSize::SmallInput,
            );
        });
        let (_subscriptions, mut events) = subscribed(&bus);
        let mut batch = Vec::new();
        group.bench_function(format!("{name}, one node, and received"), |bencher| {
            bencher.iter_batched(
                || publication(rng.u32(..TOPICS), history),
                |publication| {
                    let published = now(bus.publish(publication));
                    batch.clear();
                    now(events.next_batch(&mut batch, 64));
                    published
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, publish);
criterion_main!(benches);
