//! A worker's index: finding a topic among many, and marking a message on every member.

use std::hint::black_box;

use benches::{rng, user_key};
use common::{bus::Head, topic::TopicKey};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hub::worker::index::Index;

const HEAD: Head = Head {
    epoch: 1,
    offset: 0,
    id: None,
};

/// Topics of a worker with so many users: one each.
fn users(count: u32) -> (Index, Vec<TopicKey>) {
    let mut index = Index::default();
    let keys: Vec<TopicKey> = (0..count).map(user_key).collect();
    for (session, key) in (0..).zip(&keys) {
        let number = index.insert_confirmed(key, HEAD);
        index.join(number, session, 0);
    }
    (index, keys)
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/find");
    for count in [1_000, 10_000, 100_000] {
        let (index, keys) = users(count);
        let absent: Vec<TopicKey> = (count..count + 1000).map(user_key).collect();
        let mut rng = rng();
        group.bench_function(BenchmarkId::new("present", count), |bencher| {
            bencher.iter(|| index.find(black_box(&keys[rng.usize(..keys.len())])));
        });
        group.bench_function(BenchmarkId::new("absent", count), |bencher| {
            bencher.iter(|| index.find(black_box(&absent[rng.usize(..absent.len())])));
        });
    }
    group.finish();
}

/// The first half of a fan-out: a message's place in the batch is noted on each member. Sessions are not part of the
/// index, so here they are the list of places alone. The other half is the kernel's.
fn enqueue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/enqueue");
    for members in [1, 100, 10_000] {
        let mut index = Index::default();
        let key = TopicKey::everyone();
        let number = index.insert_confirmed(&key, HEAD);
        for session in 0..members {
            index.join(number, session, 0);
        }
        let mut pending: Vec<Vec<u8>> = (0..members).map(|_| Vec::with_capacity(4)).collect();
        let mut dirty: Vec<u32> = Vec::with_capacity(members as usize);
        group.throughput(Throughput::Elements(u64::from(members)));
        group.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            bencher.iter(|| {
                let topic = index.find(black_box(&key)).and_then(|number| index.get(number));
                for member in topic.iter().flat_map(|topic| &topic.members) {
                    let places = &mut pending[member.session as usize];
                    if places.is_empty() {
                        dirty.push(member.session);
                    }
                    places.push(0);
                }
                for session in dirty.drain(..) {
                    pending[session as usize].clear();
                }
            });
        });
    }
    group.finish();
}

fn join_and_leave(criterion: &mut Criterion) {
    let (mut index, keys) = users(10_000);
    let mut rng = rng();
    criterion.bench_function("index/join and leave", |bencher| {
        bencher.iter(|| {
            let number = index.find(&keys[rng.usize(..keys.len())])?;
            let membership = index.join(number, 1_000_000, 0)?;
            index.leave(membership)
        });
    });
}

criterion_group!(benches, find, enqueue, join_and_leave);
criterion_main!(benches);
