//! The dispatcher on real stores, without HTTP: what is accepted a second, and what goes through the queue to a channel
//! that does nothing. `scripts/bench-dispatch.sh` runs it and `loadtest dispatch` puts its figures beside its own.
//!
//! ```text
//! cargo bench -p benches --bench dispatch -- --store postgres --count 100000 --figures figures.json
//! ```

#![expect(clippy::print_stdout, reason = "a report for people")]

mod figures;
mod flow;
mod hot;
mod place;
mod work;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use dispatcher::PredefinedTemplates;

use self::{figures::Figures, place::Database};

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What is asked for on the command line.
#[derive(Debug, Clone)]
struct Args {
    /// `sqlite`, `postgres`.
    stores: Vec<String>,
    /// Deliveries through the queue.
    count: usize,
    /// Seconds of accepting.
    seconds: Duration,
    /// Seconds with a snapshot held open; none: not measured.
    pinned: Option<Duration>,
    /// Which parts; empty for all.
    only: Vec<String>,
    /// Where the figures go as JSON.
    figures: Option<String>,
}

impl Args {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }
}

fn main() -> ExitCode {
    let result = args().and_then(|args| run(&args));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("dispatch: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn args() -> Outcome<Args> {
    let mut args = Args {
        stores: vec!["sqlite".to_owned(), "postgres".to_owned()],
        count: 100_000,
        seconds: Duration::from_secs(6),
        pinned: None,
        only: Vec::new(),
        figures: None,
    };
    let list = |value: String| value.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        // Cargo adds this one to every bench.
        if word == "--bench" {
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--store" => args.stores = list(value),
            "--count" => args.count = value.parse()?,
            "--seconds" => args.seconds = Duration::from_secs(value.parse()?),
            "--pinned-seconds" => args.pinned = Some(Duration::from_secs(value.parse()?)),
            "--only" => args.only = list(value),
            "--figures" => args.figures = Some(value),
            _ => return Err(format!("{word} is not known").into()),
        }
    }
    Ok(args)
}

fn run(args: &Args) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut figures = Figures::default();
    if args.wants("d7") {
        let bounds = Some([200_000.0, 600_000.0]);
        let rate = renders(args.seconds)?;
        figures.add(
            "D7",
            "the eight predefined templates, one core",
            rate,
            "renders/s",
            bounds,
        );
    }
    for store in &args.stores {
        runtime.block_on(measure(args, store, &mut figures))?;
    }
    if let Some(path) = &args.figures {
        std::fs::write(path, figures.json())?;
    }
    Ok(())
}

/// Templates rendered a second by one thread.
fn renders(time: Duration) -> Outcome<f64> {
    let templates = PredefinedTemplates::compile()?;
    let began = Instant::now();
    let mut rounds = 0_u64;
    while began.elapsed() < time {
        for _ in 0..1_000 {
            std::hint::black_box(templates.render_all()?);
        }
        rounds += 1_000;
    }
    Ok((rounds * templates.count() as u64) as f64 / began.elapsed().as_secs_f64())
}

async fn measure(args: &Args, store: &str, figures: &mut Figures) -> Outcome<()> {
    let bounds = figures::bounds(store);
    let label = if store == "sqlite" { "SQLite" } else { "PostgreSQL" };
    if args.wants("store") {
        let database = Database::new(store)?;
        for (what, roles) in [
            ("distinct users", work::Inbox::Users(10_000)),
            ("one role", work::Inbox::Role),
        ] {
            let rate = flow::accept_singly(&database, args.seconds, roles).await?;
            let name = format!("{label}: the store accepts, 64 at once, inbox rows of {what}");
            figures.add("D1", &name, rate, "/s", None);
        }
    }
    if args.wants("readers") {
        let mut accepted = Vec::new();
        for (what, inbox) in [
            ("distinct users", work::Inbox::Users(10_000)),
            ("their role", work::Inbox::Role),
        ] {
            let database = Database::new(store)?;
            let rates = hot::beside_readers(&database, args.seconds, inbox).await?;
            let name = format!("{label}: accepted beside 10,000 readers, inbox rows of {what}");
            figures.add("hot", &name, rates.accepted, "/s", None);
            let name = format!("{label}: marked as read meanwhile");
            figures.add("hot", &name, rates.read, "/s", None);
            accepted.push(rates.accepted);
        }
        if let [many, hot] = accepted.as_slice() {
            let name = format!("{label}: accepted to one hot key against many keys, beside its readers");
            figures.add("hot", &name, 100.0 * hot / many, "%", None);
        }
    }
    if args.wants("d3") {
        let database = Database::new(store)?;
        let (bulk, through) = flow::through(&database, args.count).await?;
        let name = format!("{label}: the store accepts 1,000 at once, one delivery each");
        figures.add("D2", &name, bulk, "/s", None);
        let name = format!("{label}: claim, attempt, a channel that does nothing, settle");
        figures.add("D3", &name, through, "/s", Some(bounds));
        if store == "postgres"
            && let Some(time) = args.pinned
        {
            let drop = flow::pinned(&database, args.count, time, through / 2.0).await?;
            let name = format!(
                "{label}: a snapshot held for {} s at half of that: drop",
                time.as_secs()
            );
            figures.add("D11", &name, drop, "%", Some([30.0, 10.0]));
        }
    }
    Ok(())
}
