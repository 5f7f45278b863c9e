//! The client processes, as the parent sees them.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval, timeout_at},
};

use crate::{
    process::usage,
    stamp::Topic,
    times::Times,
    wire::{Event, Order, Rounds, Settle, Settled, Setup, Stopped, Tick, Window},
};

/// Sockets of one client process at the most: the usual hard limit of open files is 20,000.
pub(crate) const PER_PROCESS: u32 = 18_000;

/// Longest wait for an answer to an order.
const PATIENCE: Duration = Duration::from_secs(60);

/// All client processes.
#[derive(Debug)]
pub(crate) struct Fleet {
    agents: Vec<Agent>,
    events: mpsc::Receiver<(usize, Option<Event>)>,
    pids: Vec<u32>,
    sampler: Interval,
    began: Instant,
    last: Vec<Tick>,
    cpu: Duration,
    published: u64,
    /// What happened when, by name: seconds since the beginning, and the value.
    pub(crate) series: BTreeMap<&'static str, Vec<(f64, f64)>>,
    rounds: BTreeMap<u32, (usize, u64, u64, u64)>,
    /// Who gets the credit for a broadcast that has arrived at all processes.
    pub(crate) creditor: Option<(usize, u32)>,
    pub(crate) whole: Times,
    pub(crate) spread: Times,
}

#[derive(Debug)]
struct Agent {
    /// Killed with this value, should the run end early.
    _child: Child,
    orders: ChildStdin,
}

/// How connecting went.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) opened: u32,
    pub(crate) failed: BTreeMap<String, u32>,
    pub(crate) took: Duration,
}

impl Fleet {
    /// Starts so many processes with this set-up, and watches the server's processes.
    pub(crate) async fn start(
        setup: &Setup,
        processes: usize,
        core: Option<u32>,
        pids: &[u32],
    ) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel(1024);
        let mut sampler = interval(Duration::from_secs(1));
        sampler.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut fleet = Self {
            agents: Vec::new(),
            events,
            pids: pids.to_vec(),
            sampler,
            began: Instant::now(),
            last: vec![Tick::default(); processes],
            cpu: usage(pids).unwrap_or_default().cpu,
            published: 0,
            series: BTreeMap::new(),
            rounds: BTreeMap::new(),
            creditor: None,
            whole: Times::new()?,
            spread: Times::new()?,
        };
        for index in 0..processes {
            let program = std::env::current_exe()?;
            let mut command = match core {
                Some(core) => {
                    let mut command = Command::new("taskset");
                    command.arg("-c").arg(core.to_string()).arg(program);
                    command
                }
                None => Command::new(program),
            };
            let mut child = command
                .arg("agent")
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
                    if sender.send((index, event)).await.is_err() {
                        return;
                    }
                }
                // The parent waits for answers; one that cannot come any more has to be known.
                sender.send((index, None)).await.ok();
            });
            fleet.agents.push(Agent {
                _child: child,
                orders,
            });
            fleet.order(index, &Order::Setup(Box::new(setup.clone()))).await?;
        }
        Ok(fleet)
    }

    /// The server's processes are others now.
    pub(crate) fn watch(&mut self, pids: &[u32]) {
        pids.clone_into(&mut self.pids);
        self.cpu = usage(pids).unwrap_or_default().cpu;
    }

    pub(crate) fn len(&self) -> usize {
        self.agents.len()
    }

    /// Seconds since the beginning.
    pub(crate) fn elapsed(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Puts a value into a series.
    pub(crate) fn plot(&mut self, name: &'static str, value: f64) {
        let at = self.elapsed();
        self.series.entry(name).or_default().push((at, value));
    }

    /// Tells one process what to do.
    pub(crate) async fn order(&mut self, agent: usize, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let agent = self.agents.get_mut(agent).context("no such client process")?;
        agent
            .orders
            .write_all(&line)
            .await
            .context("telling a client process what to do")?;
        Ok(agent.orders.flush().await?)
    }

    /// Tells all.
    pub(crate) async fn order_all(&mut self, order: &Order) -> anyhow::Result<()> {
        for index in 0..self.agents.len() {
            self.order(index, order).await?;
        }
        Ok(())
    }

    /// The next event that is an answer; ticks, rounds and samples are taken care of. None: `until` has come.
    async fn next(&mut self, until: Instant) -> anyhow::Result<Option<(usize, Event)>> {
        loop {
            let received = tokio::select! {
                biased;
                _ = self.sampler.tick() => {
                    self.sample();
                    if Instant::now() >= until {
                        return Ok(None);
                    }
                    continue;
                }
                received = timeout_at(until, self.events.recv()) => received,
            };
            let Ok(received) = received else { return Ok(None) };
            let Some((agent, Some(event))) = received else {
                bail!("a client process ended, or said what nobody understands");
            };
            match event {
                Event::Tick(tick) => {
                    self.published += tick.published;
                    self.last[agent] = tick;
                }
                Event::Round {
                    number,
                    at_us,
                    first_us,
                    last_us,
                } => self.round(number, at_us, first_us, last_us).await?,
                event => return Ok(Some((agent, event))),
            }
        }
    }

    async fn round(&mut self, number: u32, at_us: u64, first_us: u64, last_us: u64) -> anyhow::Result<()> {
        let round = self.rounds.entry(number).or_insert((0, at_us, first_us, last_us));
        *round = (round.0 + 1, at_us, round.2.min(first_us), round.3.max(last_us));
        let (processes, at_us, first_us, last_us) = *round;
        if processes < self.agents.len() {
            return Ok(());
        }
        self.rounds.remove(&number);
        self.whole.add(last_us.saturating_sub(at_us));
        self.spread.add(last_us.saturating_sub(first_us));
        if let Some((agent, job)) = self.creditor {
            self.order(agent, &Order::Credit { job, count: 1 }).await?;
        }
        Ok(())
    }

    /// One point in each series.
    fn sample(&mut self) {
        let sum = |of: fn(&Tick) -> f64| -> f64 { self.last.iter().map(of).sum() };
        let open = sum(|tick| f64::from(tick.open));
        let received = sum(|tick| tick.received as f64);
        let published = sum(|tick| tick.published as f64);
        let resyncs = sum(|tick| tick.resyncs as f64);
        let p99 = self.last.iter().map(|tick| tick.p99_ms).fold(0.0, f64::max);
        let p50 = self.last.iter().map(|tick| tick.p50_ms).fold(0.0, f64::max);
        self.plot("open", open);
        self.plot("received_per_second", received);
        self.plot("published_per_second", published);
        if resyncs > 0.0 || self.series.contains_key("resyncs_per_second") {
            self.plot("resyncs_per_second", resyncs);
        }
        self.plot("p50_ms", p50);
        self.plot("p99_ms", p99);
        if let Some(now) = usage(&self.pids).filter(|_| !self.pids.is_empty()) {
            self.plot("rss_mib", now.rss as f64 / 1_048_576.0);
            let cpu = now.cpu.saturating_sub(self.cpu).as_secs_f64();
            self.cpu = now.cpu;
            self.plot("server_cores", cpu);
        }
    }

    /// Sockets that are open, by the last tick.
    pub(crate) fn open_now(&self) -> u32 {
        self.last.iter().map(|tick| tick.open).sum()
    }

    /// Messages published so far, by the ticks.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// Handshakes so far, by the last tick.
    pub(crate) fn handshakes_now(&self) -> u64 {
        self.last.iter().map(|tick| tick.handshakes).sum()
    }

    /// Sockets that the server has closed so far, by the last tick.
    pub(crate) fn closed_now(&self) -> u64 {
        self.last.iter().map(|tick| tick.closed).sum()
    }

    /// Waits until every handshake of these processes has ended.
    pub(crate) async fn opened(
        &mut self,
        agents: usize,
        deadline: Instant,
        bar: &ProgressBar,
    ) -> anyhow::Result<Opened> {
        let began = Instant::now();
        let mut all = Opened::default();
        let mut ready = 0;
        while ready < agents {
            let step = (Instant::now() + Duration::from_millis(200)).min(deadline);
            match self.next(step).await? {
                Some((_, Event::Opened { opened, failed })) => {
                    ready += 1;
                    all.opened += opened;
                    for (reason, count) in failed {
                        *all.failed.entry(reason).or_default() += count;
                    }
                }
                Some(_) => {}
                None if Instant::now() >= deadline => {
                    bail!("out of time while connecting: {} are open", self.open_now())
                }
                None => {}
            }
            bar.set_position(u64::from(self.open_now()));
        }
        all.took = began.elapsed();
        Ok(all)
    }

    /// Lets time pass. `on` is called about five times a second; true ends it early.
    pub(crate) async fn pass(
        &mut self,
        time: Duration,
        bar: &ProgressBar,
        mut on: impl FnMut(&mut Self) -> bool,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let end = began + time;
        while Instant::now() < end {
            let step = (Instant::now() + Duration::from_millis(200)).min(end);
            if self.next(step).await?.is_some() {
                bail!("a client process answered what nobody asked");
            }
            bar.set_position(began.elapsed().as_secs());
            let tick = self.last.iter().fold((0, 0.0_f64), |(received, p99), tick| {
                (received + tick.received, p99.max(tick.p99_ms))
            });
            bar.set_message(format!(
                "{} open, {} received/s, p99 {:.1} ms",
                self.open_now(),
                tick.0,
                tick.1
            ));
            if on(self) {
                break;
            }
        }
        Ok(())
    }

    /// The figures of each process since the last time.
    pub(crate) async fn mark(&mut self) -> anyhow::Result<Vec<Window>> {
        self.order_all(&Order::Mark).await?;
        let mut windows = vec![Window::default(); self.agents.len()];
        for _ in 0..self.agents.len() {
            match self.next(Instant::now() + PATIENCE).await? {
                Some((agent, Event::Window(window))) => windows[agent] = *window,
                Some((_, event)) => bail!("figures were asked for, and {event:?} came"),
                None => bail!("a client process does not answer"),
            }
        }
        if self.agents.len() > 1 {
            windows[0].whole = self.whole.drain();
            windows[0].spread = self.spread.drain();
        }
        Ok(windows)
    }

    /// Ends publishing, and says what was sent.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<Stopped> {
        self.creditor = None;
        self.order_all(&Order::Stop).await?;
        let mut all = Stopped::default();
        let mut sent: BTreeMap<Topic, u32> = BTreeMap::new();
        for _ in 0..self.agents.len() {
            match self.next(Instant::now() + PATIENCE).await? {
                Some((_, Event::Stopped(stopped))) => {
                    for (topic, number) in stopped.sent {
                        let highest = sent.entry(topic).or_default();
                        *highest = number.max(*highest);
                    }
                    all.failed.extend(stopped.failed);
                }
                Some((_, event)) => bail!("publishing was to end, and {event:?} came"),
                None => bail!("publishes were not answered within {} s", PATIENCE.as_secs()),
            }
        }
        all.sent = sent.into_iter().collect();
        Ok(all)
    }

    /// Waits for what is on the way, and says what is missing.
    pub(crate) async fn settle(&mut self, settle: &Settle) -> anyhow::Result<Vec<Settled>> {
        self.order_all(&Order::Settle(settle.clone())).await?;
        let deadline = Instant::now() + Duration::from_millis(settle.grace_ms) + PATIENCE;
        let mut all = vec![Settled::default(); self.agents.len()];
        for _ in 0..self.agents.len() {
            match self.next(deadline).await? {
                Some((agent, Event::Settled(settled))) => all[agent] = settled,
                Some((_, event)) => bail!("the end was asked for, and {event:?} came"),
                None => bail!("a client process does not answer"),
            }
        }
        Ok(all)
    }
}

/// How rounds are followed with so many processes.
pub(crate) fn rounds(processes: usize) -> Rounds {
    if processes == 1 {
        Rounds::Here
    } else {
        Rounds::Parent
    }
}
