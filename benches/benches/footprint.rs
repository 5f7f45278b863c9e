//! Bytes that a session takes in the indexes, and what is left when all have gone. Fails beyond the bounds of
//! `docs/measurements.md`.

#![expect(clippy::print_stdout, reason = "a report for people")]

use benches::node::{STORES, enter, hub, identity};
use hub::worker::bench::Node;
use tikv_jemalloc_ctl::{epoch, stats};

/// jemalloc as the server has it: rounding counts.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Most bytes a session in all indexes together.
const MOST: usize = 500;

/// Most bytes that a user who has gone leaves.
const LEFT: usize = 16;

fn allocated() -> usize {
    epoch::advance().expect("jemalloc has statistics");
    stats::allocated::read().expect("jemalloc has statistics")
}

/// One line of the report: what was allocated since, for each session.
fn report(what: &str, since: usize, sessions: u32) -> usize {
    let bytes = allocated().saturating_sub(since) / sessions as usize;
    println!("  {what:<58}{bytes:>8} bytes a session");
    bytes
}

async fn sessions(count: u32) -> (usize, usize) {
    println!("{count} sessions with six topics each");
    let mut node = Node::new(&hub(), identity(0)).await.expect("a port of loopback");
    // The first ones bring the topics that all others share.
    for number in 0..STORES {
        enter(&mut node, number).await;
    }
    let numbers = STORES..STORES + count;
    // Made first, so that only what they need of it is counted.
    let mut all = Vec::with_capacity(count as usize);
    let mut live = Vec::with_capacity(count as usize);
    let mut joined = Vec::with_capacity(count as usize);

    let begin = allocated();
    all.extend(
        numbers
            .clone()
            .map(|number| node.admit(&identity(number)).expect("no limits")),
    );
    report("counts of users, keys of sessions and their text", begin, count);

    let from = allocated();
    for seated in &all {
        node.subscribe(seated).await;
    }
    report("the bus's topics, the node's registry", from, count);

    let from = allocated();
    for (seated, number) in all.iter().zip(numbers) {
        joined.push(node.join(seated, number).await);
    }
    report("the worker's index, with the sessions' places in it", from, count);
    let indexes = report("all indexes", begin, count);

    let from = allocated();
    for (seated, joined) in all.drain(..).zip(joined.drain(..)) {
        live.push(node.enter(seated, joined));
    }
    report(
        "sessions (beside: their rows, not what a socket needs)",
        from,
        count,
    );

    for slot in live.drain(..) {
        node.leave(slot).await;
    }
    let rows = allocated();
    // A second crowd of other users: what the first one left is what this one adds.
    for number in STORES + count..STORES + count * 2 {
        live.push(enter(&mut node, number).await.0);
    }
    for slot in live {
        node.leave(slot).await;
    }
    let left = report("left by users who came and went", rows, count);
    (indexes, left)
}

fn main() {
    // `cargo bench` hands flags of criterion's to every bench.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut failed = false;
    for count in [100_000, 1_000_000] {
        let (indexes, left) = runtime.block_on(sessions(count));
        failed |= indexes > MOST || left > LEFT;
    }
    assert!(!failed, "more than {MOST} bytes a session, or {LEFT} left by one");
}
