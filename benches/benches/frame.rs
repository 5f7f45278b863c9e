//! Reading what clients send, and making the frame that a fan-out shares.

use std::hint::black_box;

use benches::{masked_text, message, rng};
use common::protocol::frame_parts;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hub::ws::{Parser, encode_text};

const SIZES: [usize; 3] = [16, 128, 1024];

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/parse");
    for size in SIZES {
        let frame = masked_text(&mut rng(), size);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(format!("{size} bytes, whole"), |bencher| {
            // Frames are unmasked in place, so each turn needs a fresh copy; making it is not measured.
            bencher.iter_batched_ref(
                || (Parser::new(64 * 1024), frame.clone()),
                |(parser, bytes)| {
                    parser.feed(bytes, |event| {
                        black_box(event);
                    })
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function(format!("{size} bytes, in two reads"), |bencher| {
            bencher.iter_batched_ref(
                || (Parser::new(64 * 1024), frame.clone()),
                |(parser, bytes)| {
                    let (first, second) = bytes.split_at_mut(frame.len() / 2);
                    parser.feed(first, |event| {
                        black_box(event);
                    })?;
                    parser.feed(second, |event| {
                        black_box(event);
                    })
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/build");
    for size in SIZES {
        let message = message(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} bytes"), |bencher| {
            bencher.iter(|| {
                let (payload, tail) = frame_parts(black_box(&message));
                encode_text(&[payload, &tail])
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parse, build);
criterion_main!(benches);
