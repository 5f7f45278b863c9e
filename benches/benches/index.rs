//! A worker's index with 100,000 and 1,000,000 sessions of six topics each: finding a topic, putting a message before its
//! sessions, coming and going. All of it is the server's own code; only the sockets are missing.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use benches::{
    node::{Crowd, enter, groups, members, outgoing},
    rng,
};
use common::bus::Head;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hub::{Outgoing, worker::index::Index};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Sessions of a worker.
const SIZES: [u32; 2] = [100_000, 1_000_000];

/// Messages that a worker takes together.
const BATCH: usize = 32;

/// The worker looks keys up among the topics of users and of groups.
fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/find");
    for size in SIZES {
        let mut index = Index::default();
        let head = Head {
            epoch: 1,
            offset: 0,
            id: None,
        };
        let keys: Vec<_> = (0..size).map(benches::user_key).collect();
        for key in &keys {
            index.insert_confirmed(key, head);
        }
        let absent: Vec<_> = (size..size + 1000).map(benches::user_key).collect();
        let mut rng = rng();
        group.bench_function(BenchmarkId::new("present", size), |bencher| {
            bencher.iter(|| index.find(black_box(&keys[rng.usize(..keys.len())])));
        });
        group.bench_function(BenchmarkId::new("absent", size), |bencher| {
            bencher.iter(|| index.find(black_box(&absent[rng.usize(..absent.len())])));
        });
    }
    group.finish();
}

/// Times the fan-out of batches, without what undoes it.
fn fan_out(
    crowd: &mut Crowd,
    rounds: u64,
    mut batch: impl FnMut(&Crowd, &mut Vec<Arc<Outgoing>>, &mut Vec<u32>),
) -> Duration {
    let mut messages = Vec::with_capacity(BATCH);
    let mut reached = Vec::new();
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        batch(crowd, &mut messages, &mut reached);
        let began = Instant::now();
        crowd.node.fan_out(&mut messages);
        total += began.elapsed();
        crowd.node.discard(&reached);
    }
    total
}

fn with_sessions(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for size in SIZES {
        let mut crowd = runtime.block_on(Crowd::new(size));
        let mut rng = rng();

        // Time is for each session reached.
        let mut group = criterion.benchmark_group("index/enqueue");
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("users", size), |bencher| {
            bencher.iter_custom(|rounds| {
                fan_out(&mut crowd, rounds, |crowd, messages, reached| {
                    reached.clear();
                    for (session, message) in crowd.unicasts(&mut rng, BATCH) {
                        messages.push(message);
                        reached.push(session);
                    }
                })
            });
        });
        for (name, key) in groups() {
            let members = members(&key, size);
            let message = outgoing(key);
            group.sample_size(20);
            group.throughput(Throughput::Elements(members.len() as u64));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_custom(|rounds| {
                    fan_out(&mut crowd, rounds, |_, messages, reached| {
                        reached.clone_from(&members);
                        messages.push(Arc::clone(&message));
                    })
                });
            });
        }
        group.finish();

        let mut group = criterion.benchmark_group("index/churn");
        let mut number = size;
        group.bench_function(BenchmarkId::new("a new user comes and goes", size), |bencher| {
            bencher.iter(|| {
                number += 1;
                runtime.block_on(async {
                    let (slot, _) = enter(&mut crowd.node, number).await;
                    crowd.node.leave(slot).await;
                });
            });
        });
        group.bench_function(
            BenchmarkId::new("another device comes and goes", size),
            |bencher| {
                bencher.iter(|| {
                    let user = rng.u32(..size);
                    runtime.block_on(async {
                        let (slot, _) = enter(&mut crowd.node, user).await;
                        crowd.node.leave(slot).await;
                    });
                });
            },
        );
        group.finish();
    }
}

criterion_group!(benches, find, with_sessions);
criterion_main!(benches);
