//! The client processes, as the parent sees them.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::wire::{Done, Event, Expected, Open, Order};

/// Sockets of one client process at the most: the usual hard limit of descriptors is 20,000.
const PER_WORKER: u32 = 15_000;

/// Sockets of one client process where nothing else is asked.
const USUAL_PER_WORKER: u32 = 10_000;

/// All client processes.
#[derive(Debug)]
pub(crate) struct Fleet {
    workers: Vec<Worker>,
    events: mpsc::Receiver<(usize, Option<Event>)>,
}

#[derive(Debug)]
struct Worker {
    /// Killed with this value, should the run end early.
    _child: Child,
    orders: ChildStdin,
    count: u32,
}

/// How connecting went.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) opened: u32,
    pub(crate) failed: BTreeMap<String, u32>,
    pub(crate) took: Duration,
}

/// A broadcast that arrived everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    pub(crate) number: u64,
    pub(crate) first_us: u64,
    pub(crate) last_us: u64,
}

impl Fleet {
    /// Starts the processes and gives each its share of `open.count`.
    pub(crate) async fn start(open: &Open, workers: Option<u32>) -> anyhow::Result<Self> {
        let workers = workers
            .unwrap_or_else(|| open.count.div_ceil(USUAL_PER_WORKER))
            .clamp(1, open.count);
        if open.count.div_ceil(workers) > PER_WORKER {
            bail!("a client process has at most {PER_WORKER} sockets: use more --workers");
        }
        let (sender, events) = mpsc::channel(1024);
        let mut fleet = Self {
            workers: Vec::new(),
            events,
        };
        let mut first = 0;
        for index in 0..workers {
            let count = (open.count - first).div_ceil(workers - index);
            let mut child = Command::new(std::env::current_exe()?)
                .arg("client")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .context("starting a client process")?;
            let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                bail!("a client process without pipes");
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let event = serde_json::from_str(&line).ok();
                    if sender.send((index as usize, event)).await.is_err() {
                        return;
                    }
                }
                // The parent waits for reports; one that cannot come any more has to be known.
                sender.send((index as usize, None)).await.ok();
            });
            let mut worker = Worker {
                _child: child,
                orders,
                count,
            };
            worker
                .order(&Order::Open(Open {
                    first,
                    count,
                    ..open.clone()
                }))
                .await?;
            fleet.workers.push(worker);
            first += count;
        }
        Ok(fleet)
    }

    async fn event(&mut self, deadline: Instant, what: &str) -> anyhow::Result<(usize, Event)> {
        match timeout_at(deadline, self.events.recv()).await {
            Ok(Some((worker, Some(event)))) => Ok((worker, event)),
            Ok(_) => bail!("a client process ended {what}"),
            Err(_) => bail!("out of time {what}"),
        }
    }

    /// Waits until every handshake has ended.
    pub(crate) async fn opened(
        &mut self,
        deadline: Instant,
        progress: &ProgressBar,
    ) -> anyhow::Result<Opened> {
        let began = Instant::now();
        let mut all = Opened::default();
        let mut each = vec![0; self.workers.len()];
        let mut ready = 0;
        while ready < self.workers.len() {
            match self.event(deadline, "while connecting").await? {
                (worker, Event::Opening { opened }) => each[worker] = opened,
                (worker, Event::Ready { opened, failed }) => {
                    each[worker] = opened;
                    ready += 1;
                    for (reason, count) in failed {
                        *all.failed.entry(reason).or_default() += count;
                    }
                }
                _ => {}
            }
            progress.set_position(each.iter().copied().map(u64::from).sum());
        }
        all.opened = each.iter().sum();
        all.took = began.elapsed();
        Ok(all)
    }

    /// Waits for a broadcast that has arrived at all sockets of all processes.
    pub(crate) async fn arrived(
        &mut self,
        partial: &mut Rounds,
        deadline: Instant,
    ) -> anyhow::Result<Arrived> {
        loop {
            let (_, event) = self
                .event(deadline, "while waiting for a broadcast to arrive everywhere")
                .await?;
            if let Some(arrived) = partial.add(&event, self.workers.len()) {
                return Ok(arrived);
            }
        }
    }

    /// Takes what was reported already, without waiting.
    pub(crate) fn arrived_now(&mut self, partial: &mut Rounds) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        while let Ok((_, event)) = self.events.try_recv() {
            arrived.extend(event.and_then(|event| partial.add(&event, self.workers.len())));
        }
        arrived
    }

    /// Says that all was sent, and collects the reports. Broadcasts that complete meanwhile go to `on`.
    pub(crate) async fn finish(
        &mut self,
        expected: &Expected,
        grace: Duration,
        partial: &mut Rounds,
        mut on: impl FnMut(Arrived),
    ) -> anyhow::Result<Vec<Done>> {
        let mut first = 0;
        let grace_ms = u64::try_from(grace.as_millis())?;
        for worker in &mut self.workers {
            let expected = match expected {
                Expected::All(count) => Expected::All(*count),
                Expected::Each(counts) => {
                    Expected::Each(counts[first..first + worker.count as usize].to_vec())
                }
            };
            first += worker.count as usize;
            worker.order(&Order::Finish { expected, grace_ms }).await?;
        }
        let deadline = Instant::now() + grace + Duration::from_secs(20);
        let mut done = Vec::new();
        while done.len() < self.workers.len() {
            match self.event(deadline, "before its report").await?.1 {
                Event::Done(report) => done.push(report),
                event => {
                    if let Some(arrived) = partial.add(&event, self.workers.len()) {
                        on(arrived);
                    }
                }
            }
        }
        Ok(done)
    }
}

impl Worker {
    async fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders
            .write_all(&line)
            .await
            .context("telling a client process what to do")?;
        Ok(self.orders.flush().await?)
    }
}

/// Broadcasts that have arrived in some of the processes.
#[derive(Debug, Default)]
pub(crate) struct Rounds(BTreeMap<u64, (usize, u64, u64)>);

impl Rounds {
    fn add(&mut self, event: &Event, workers: usize) -> Option<Arrived> {
        let Event::Round {
            number,
            first_us,
            last_us,
        } = *event
        else {
            return None;
        };
        let round = self.0.entry(number).or_insert((0, first_us, last_us));
        *round = (round.0 + 1, round.1.min(first_us), round.2.max(last_us));
        if round.0 < workers {
            return None;
        }
        let (_, first_us, last_us) = self.0.remove(&number)?;
        Some(Arrived {
            number,
            first_us,
            last_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_whole_when_every_process_had_it() {
        let mut rounds = Rounds::default();
        assert!(
            rounds
                .add(
                    &Event::Round {
                        number: 1,
                        first_us: 5,
                        last_us: 9
                    },
                    2
                )
                .is_none()
        );
        let arrived = rounds
            .add(
                &Event::Round {
                    number: 1,
                    first_us: 3,
                    last_us: 7,
                },
                2,
            )
            .unwrap();
        assert_eq!((arrived.number, arrived.first_us, arrived.last_us), (1, 3, 9));
    }
}
