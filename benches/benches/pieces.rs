//! The time that each piece of the hot paths takes.

use std::time::{Duration, Instant};

use benches::piece::{self, Step};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn pieces(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("pieces");
    for piece in piece::all() {
        // Made when it is measured: a filter on the command line leaves the others out.
        let mut work = None;
        group.throughput(Throughput::Elements(piece.units));
        group.bench_function(piece.name, |bencher| {
            let work = work.get_or_insert_with(|| (piece.make)(&runtime));
            bencher.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    work(Step::Prepare);
                    let began = Instant::now();
                    work(Step::Run);
                    total += began.elapsed();
                }
                // For one of its units.
                total / u32::try_from(piece.units).unwrap_or(u32::MAX)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pieces);
criterion_main!(benches);
