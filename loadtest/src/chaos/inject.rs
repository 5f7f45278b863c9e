//! Faults, one after the other, on a thread of their own: what they wait for blocks.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rig::redis::Cluster;
use tokio::sync::mpsc;

use super::{Fault, Stage, plan::Options};

/// Longest fail-over, and longest time until Redis is whole again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Slots of a cluster.
const SLOTS: u16 = 16_384;
/// News that may wait for the parent, which looks several times a second.
const NEWS: usize = 1024;

/// What the thread tells.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A fault begins.
    Began { fault: Fault, at: Instant },
    /// The parent, whose sockets they are, has to cut some.
    Cut,
    /// It has run its course.
    Ended {
        fault: Fault,
        at: Instant,
        what: anyhow::Result<String>,
    },
    /// The plan is through.
    Through,
}

/// The thread. Dropped, it goes on until the fault at hand has run its course.
#[derive(Debug)]
pub(crate) struct Injector {
    pub(crate) news: mpsc::Receiver<Happening>,
    /// Dropped, it ends all pauses.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Injector {
    /// Begins a schedule.
    pub(crate) fn start(
        stage: Arc<Stage>,
        schedule: Vec<(Duration, Fault)>,
        options: Options,
        seed: u64,
    ) -> Self {
        let (sender, news) = mpsc::channel(NEWS);
        let (stop, stopped) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let mut hand = Hand {
                stage: &stage,
                options: &options,
                random: fastrand::Rng::with_seed(seed),
                stopped: &stopped,
            };
            // Whoever is gone need not be told.
            let tell = |happening| sender.blocking_send(happening).is_ok();
            for (due, fault) in schedule {
                if !pause((began + due).saturating_duration_since(Instant::now()), &stopped) {
                    return;
                }
                let told = tell(Happening::Began {
                    fault,
                    at: Instant::now(),
                });
                if fault == Fault::ClientsCut {
                    tell(Happening::Cut);
                }
                let what = hand.lay_on(fault);
                let at = Instant::now();
                if !told || !tell(Happening::Ended { fault, at, what }) {
                    return;
                }
            }
            tell(Happening::Through);
        });
        Self {
            news,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Begins no further fault.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.stop();
        self.news.close();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            thread.join().ok();
        }
    }
}

/// Lets time pass. False: it was told to stop.
fn pause(time: Duration, stopped: &Receiver<()>) -> bool {
    matches!(stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}

struct Hand<'a> {
    stage: &'a Stage,
    options: &'a Options,
    random: fastrand::Rng,
    stopped: &'a Receiver<()>,
}

impl Hand<'_> {
    /// Does it, and what follows from it; says to whom.
    fn lay_on(&mut self, fault: Fault) -> anyhow::Result<String> {
        let redis = &self.stage.redis;
        let said = match fault {
            Fault::HubKilled => self.kill_a_hub()?,
            Fault::RedisKilled => {
                let (old, new) = self.fell(Cluster::kill)?;
                self.stage.redis.restart(old)?;
                format!("node {old}, node {new} took over")
            }
            Fault::RedisPaused => {
                let (old, new) = self.fell(Cluster::pause)?;
                self.stage.redis.resume(old)?;
                format!("node {old}, node {new} took over")
            }
            Fault::SlotsMigrated => self.migrate()?,
            Fault::ClientsCut => {
                pause(seconds(self.options.cut_seconds), self.stopped);
                let share = self.options.cut_share * 100.0;
                return Ok(format!("{share:.0} % of them"));
            }
            Fault::ConnectionsKilled => self.kill_connections()?,
            Fault::NginxReloaded => match self.stage.nginx() {
                Some(nginx) => {
                    nginx.reload()?;
                    return Ok("by SIGHUP".to_owned());
                }
                None => return Ok("there is none".to_owned()),
            },
        };
        redis.settle(PATIENCE)?;
        Ok(said)
    }

    fn kill_a_hub(&mut self) -> anyhow::Result<String> {
        let number = self.random.usize(..self.stage.hubs.len());
        let hub = &self.stage.hubs[number];
        hub.kill()?;
        pause(seconds(self.options.hub_away_seconds), self.stopped);
        let again = Instant::now();
        hub.restart()?;
        Ok(format!(
            "hub {number}, ready {:.1} s after it was started again",
            again.elapsed().as_secs_f64()
        ))
    }

    /// A primary falls and another takes over; which ones.
    fn fell(&mut self, how: fn(&Cluster, usize) -> Result<(), rig::Error>) -> anyhow::Result<(usize, usize)> {
        let redis = &self.stage.redis;
        let primaries = redis.primaries()?;
        let old = *self.random.choice(&primaries).context("no primary")?;
        how(redis, old)?;
        let new = redis.wait_for_failover(old, PATIENCE)?;
        pause(seconds(self.options.redis_away_seconds), self.stopped);
        Ok((old, new))
    }

    fn migrate(&mut self) -> anyhow::Result<String> {
        let redis = &self.stage.redis;
        let first = self.random.u16(..SLOTS);
        let from = redis.owner_of(first)?;
        let primaries = redis.primaries()?;
        let others: Vec<usize> = primaries.into_iter().filter(|other| *other != from).collect();
        let to = *self.random.choice(&others).context("no other primary")?;
        let nodes = redis.node(from).command(&["CLUSTER", "NODES"])?;
        let own = own_slots(nodes.as_str());
        let last = first.saturating_add(self.options.slots.max(1) - 1).min(SLOTS - 1);
        let slots: Vec<u16> = (first..=last)
            .filter(|slot| own.iter().any(|(from, to)| (from..=to).contains(&slot)))
            .collect();
        let count = slots.len();
        let keys = redis.migrate_slots(from, to, slots)?;
        Ok(format!(
            "{count} slots from {first} on with {keys} keys, node {from} to node {to}"
        ))
    }

    fn kill_connections(&mut self) -> anyhow::Result<String> {
        let redis = &self.stage.redis;
        let (mut killed, mut all) = (0, 0);
        for node in redis.primaries()? {
            let mut connection = redis.node(node).connect(PATIENCE)?;
            let list = connection.call(&["CLIENT", "LIST"])?;
            for id in hub_connections(list.as_str()) {
                all += 1;
                if self.random.f64() < self.options.killed_share {
                    // Who has gone by itself is not found.
                    killed += usize::from(connection.call(&["CLIENT", "KILL", "ID", id]).is_ok());
                }
            }
        }
        if all == 0 {
            bail!("no hub has a connection to Redis");
        }
        Ok(format!("{killed} of {all}"))
    }
}

fn seconds(of: f64) -> Duration {
    Duration::from_secs_f64(of.max(0.0))
}

/// The slots of who answered CLUSTER NODES, without those on their way.
fn own_slots(nodes: &str) -> Vec<(u16, u16)> {
    let own = nodes.lines().find(|line| line.contains("myself"));
    let words = own.map(|line| line.split(' ').skip(8)).into_iter().flatten();
    words
        .filter_map(|word| {
            let (from, to) = word.split_once('-').unwrap_or((word, word));
            Some((from.parse().ok()?, to.parse().ok()?))
        })
        .collect()
}

/// The ids of the hubs' connections in a CLIENT LIST.
fn hub_connections(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .filter(|line| line.contains(" name=carillon-"))
        .filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("id=")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_read() {
        let nodes = "aa 127.0.0.1:1@2 master - 0 1 2 connected 0-5\nbb 127.0.0.1:3@4 myself,master - 0 0 7 connected 6-9 12 [7->-aa]\n";
        assert_eq!(own_slots(nodes), [(6, 9), (12, 12)]);
        assert_eq!(own_slots(""), []);
        let list = "id=3 addr=127.0.0.1:1 name=carillon-x age=1\nid=4 addr=127.0.0.1:2 name= age=1\n";
        assert_eq!(hub_connections(list).collect::<Vec<_>>(), ["3"]);
    }

    #[test]
    fn a_wait_ends_when_it_is_told_to() {
        let (stop, stopped) = sync_channel(1);
        assert!(pause(Duration::ZERO, &stopped));
        drop(stop);
        assert!(!pause(Duration::from_secs(3600), &stopped));
    }
}
