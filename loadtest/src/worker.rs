//! A client process: many sockets on one thread, each a small task.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    io::Write,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin},
    sync::{Notify, Semaphore},
    task::{JoinSet, LocalSet},
};

use crate::{
    check::{Faults, Sequence},
    client::Client,
    wire::{Done, Event, Expected, Open, Order, now_us},
};

/// What the sockets of this process share. One thread, so no lock.
#[derive(Debug)]
struct Shared {
    tenant: String,
    opened: Cell<u32>,
    failed: RefCell<BTreeMap<String, u32>>,
    sequences: RefCell<Vec<Sequence>>,
    rounds: RefCell<HashMap<u64, Round>>,
    latency: RefCell<Histogram<u64>>,
    closed: RefCell<BTreeMap<String, u32>>,
    received: Cell<u64>,
    arrived: Notify,
    /// The last message that was parsed: of a broadcast all sockets get the same bytes.
    parsed: RefCell<(Vec<u8>, Option<Stamp>)>,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    sockets: u32,
    first_us: u64,
    last_us: u64,
}

/// What a message of this harness carries.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    number: u64,
    sent_us: u64,
    offset: Option<u64>,
    broadcast: bool,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    data: Option<Data<'a>>,
    #[serde(borrow)]
    topic: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    position: Option<&'a str>,
}

#[derive(Deserialize)]
struct Data<'a> {
    run: &'a str,
    n: u64,
    t: u64,
}

/// Runs until the parent closes standard input.
pub(crate) async fn run() -> anyhow::Result<()> {
    LocalSet::new().run_until(worker()).await
}

async fn worker() -> anyhow::Result<()> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let Some(Order::Open(open)) = next(&mut orders).await? else {
        bail!("the first order has to be `open`")
    };
    enough_descriptors(open.count)?;
    let shared = Rc::new(Shared {
        tenant: open.tenant.clone(),
        opened: Cell::new(0),
        failed: RefCell::default(),
        sequences: RefCell::new((0..open.count).map(|_| Sequence::default()).collect()),
        rounds: RefCell::default(),
        latency: RefCell::new(Histogram::new_with_bounds(1, 600_000_000, 3)?),
        closed: RefCell::default(),
        received: Cell::new(0),
        arrived: Notify::new(),
        parsed: RefCell::default(),
    });
    connect_all(open, &shared).await?;
    let Some(Order::Finish { expected, grace_ms }) = next(&mut orders).await? else {
        return Ok(());
    };
    // A timeout here is the finding, not an error: what is missing counts as lost.
    if tokio::time::timeout(Duration::from_millis(grace_ms), shared.complete(&expected))
        .await
        .is_err()
    {
        eprintln!("client process: not everything arrived within {grace_ms} ms");
    }
    // Repeats would come right behind: look for them a moment longer.
    tokio::time::sleep(Duration::from_millis(200)).await;
    tell(&Event::Done(shared.done(&expected)))?;
    // Sockets stay open until the parent has looked at the server.
    next(&mut orders).await?;
    Ok(())
}

async fn next(orders: &mut Lines<BufReader<Stdin>>) -> anyhow::Result<Option<Order>> {
    let Some(line) = orders.next_line().await? else {
        return Ok(None);
    };
    Ok(Some(
        serde_json::from_str(&line).context("an order of the parent")?,
    ))
}

fn tell(event: &Event) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}

fn enough_descriptors(sockets: u32) -> anyhow::Result<()> {
    let needed = u64::from(sockets) + 64;
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    if limit < needed {
        bail!(
            "{sockets} sockets need {needed} descriptors, this process may have {limit}: use more --workers"
        );
    }
    Ok(())
}

async fn connect_all(open: Open, shared: &Rc<Shared>) -> anyhow::Result<()> {
    let open = Rc::new(open);
    let slots = Rc::new(Semaphore::new(open.connecting as usize));
    let mut handshakes = JoinSet::new();
    for index in 0..open.count {
        let (open, shared, slots) = (Rc::clone(&open), Rc::clone(shared), Rc::clone(&slots));
        handshakes.spawn_local(async move {
            let Ok(_slot) = slots.acquire().await else { return };
            match Client::open(&open, open.first + index).await {
                Ok(client) => {
                    shared.opened.set(shared.opened.get() + 1);
                    let reader = Rc::clone(&shared);
                    tokio::task::spawn_local(reader.read(client, index as usize));
                }
                Err(error) => {
                    *shared
                        .failed
                        .borrow_mut()
                        .entry(format!("{error:#}"))
                        .or_default() += 1
                }
            }
        });
    }
    let mut told = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            ended = handshakes.join_next() => match ended {
                None => break,
                Some(ended) => ended?,
            },
            _ = told.tick() => tell(&Event::Opening { opened: shared.opened.get() })?,
        }
    }
    tell(&Event::Ready {
        opened: shared.opened.get(),
        failed: shared.failed.take(),
    })
}

impl Shared {
    async fn read(self: Rc<Self>, mut client: Client, socket: usize) {
        let end = loop {
            let now = Cell::new(0);
            let read = client.read(|payload| {
                if now.get() == 0 {
                    now.set(now_us());
                }
                self.take(socket, payload, now.get());
            });
            if let Err(end) = read.await {
                break end;
            }
        };
        *self.closed.borrow_mut().entry(end).or_default() += 1;
    }

    fn take(&self, socket: usize, payload: &[u8], now_us: u64) {
        let Some(stamp) = self.stamp(payload) else { return };
        if let Some(sequence) = self.sequences.borrow_mut().get_mut(socket) {
            sequence.take(stamp.number, stamp.offset);
        }
        self.latency
            .borrow_mut()
            .saturating_record(now_us.saturating_sub(stamp.sent_us).max(1));
        self.received.set(self.received.get() + 1);
        if stamp.broadcast {
            self.round(stamp.number, now_us);
        }
        self.arrived.notify_one();
    }

    fn stamp(&self, payload: &[u8]) -> Option<Stamp> {
        let mut parsed = self.parsed.borrow_mut();
        if parsed.0 != payload {
            parsed.1 = parse(payload, &self.tenant);
            parsed.0.clear();
            parsed.0.extend_from_slice(payload);
        }
        parsed.1
    }

    fn round(&self, number: u64, now_us: u64) {
        let mut rounds = self.rounds.borrow_mut();
        let round = rounds.entry(number).or_insert(Round {
            sockets: 0,
            first_us: now_us,
            last_us: now_us,
        });
        round.sockets += 1;
        round.last_us = now_us;
        if round.sockets == self.opened.get() {
            let Round {
                first_us, last_us, ..
            } = *round;
            rounds.remove(&number);
            if let Err(error) = tell(&Event::Round {
                number,
                first_us,
                last_us,
            }) {
                eprintln!("client process: cannot tell the parent: {error}");
            }
        }
    }

    async fn complete(&self, expected: &Expected) {
        loop {
            let whole = {
                let sequences = self.sequences.borrow();
                sequences
                    .iter()
                    .enumerate()
                    .all(|(socket, sequence)| sequence.received() >= expected.of(socket))
            };
            if whole {
                return;
            }
            self.arrived.notified().await;
            // Under load this task would else look at every socket after every message.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn done(&self, expected: &Expected) -> Done {
        let mut done = Done {
            received: self.received.get(),
            closed: self.closed.borrow().clone(),
            ..Done::default()
        };
        for (socket, sequence) in self.sequences.borrow().iter().enumerate() {
            let faults: Faults = sequence.faults(expected.of(socket));
            done.faults.add(faults);
            done.faulty += u32::from(faults.any());
        }
        let latency = self.latency.borrow();
        done.latency_us = latency
            .iter_recorded()
            .map(|at| (at.value_iterated_to(), at.count_at_value()))
            .collect();
        done
    }
}

fn parse(payload: &[u8], run: &str) -> Option<Stamp> {
    let frame: Frame<'_> = serde_json::from_slice(payload).ok()?;
    let data = frame.data.filter(|data| data.run == run)?;
    let offset = frame
        .position
        .and_then(|text| text.split(':').nth(1))
        .and_then(|offset| offset.parse().ok());
    let broadcast = frame.topic.as_deref() == Some("tenant");
    Some(Stamp {
        number: data.n,
        sent_us: data.t,
        offset,
        broadcast,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_from_frames_of_this_run_only() {
        let frame = br#"{"type":"message","id":"x","data":{"run":"load-1","n":3,"t":5,"pad":""},"topic":"tenant","position":"a:7:0"}"#;
        let stamp = parse(frame, "load-1").unwrap();
        assert_eq!(
            (stamp.number, stamp.sent_us, stamp.offset, stamp.broadcast),
            (3, 5, Some(7), true)
        );
        assert!(parse(frame, "load-2").is_none());
        assert!(parse(br#"{"type":"pong","positions":{}}"#, "load-1").is_none());
    }
}
