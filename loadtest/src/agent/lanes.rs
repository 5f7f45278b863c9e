//! All publishing connections of a client process.

use std::{
    collections::{BTreeMap, HashMap},
    io::{ErrorKind, Read},
    net::SocketAddr,
};

use anyhow::bail;
use memchr::memmem;
use mio::{Registry, Token};

use super::{
    http,
    job::{MAX_WAITING, Running},
    lane::{Asked, Broken, Lane},
};
use crate::{
    stamp::{Stamp, Topic},
    target::{Protocol, Publish},
    times::{Times, now_us},
    wire::{Job, Stopped},
};

/// Tokens of lanes begin here; below are sockets.
pub(super) const FIRST_LANE: usize = 1 << 24;

/// Pause before a connection that broke is made anew.
const AGAIN_US: u64 = 50_000;

/// Longest wait for the answer to a publish that can be repeated.
const LONGEST_ANSWER_US: u64 = 10_000_000;

/// Everything that publishes.
#[derive(Debug)]
pub(super) struct Lanes {
    run: u32,
    publish: Publish,
    /// The nodes over which connections spread.
    addresses: Vec<SocketAddr>,
    token: String,
    jobs: Vec<Running>,
    lanes: Vec<Lane>,
    numbers: HashMap<Topic, u32>,
    failed: Vec<(Topic, u32)>,
    pub(super) published: u64,
    pub(super) errors: BTreeMap<String, u64>,
    /// Publishes that were repeated, by why; and how many of them may have been taken before.
    pub(super) repeated: BTreeMap<String, u64>,
    pub(super) unclear: u64,
    pub(super) answer: Times,
    scratch: Vec<u8>,
}

impl Lanes {
    pub(super) fn new(
        run: u32,
        publish: Publish,
        addresses: Vec<SocketAddr>,
        token: String,
    ) -> anyhow::Result<Self> {
        if addresses.is_empty() {
            bail!("nowhere to publish to");
        }
        Ok(Self {
            run,
            publish,
            addresses,
            token,
            jobs: Vec::new(),
            lanes: Vec::new(),
            numbers: HashMap::new(),
            failed: Vec::new(),
            published: 0,
            errors: BTreeMap::new(),
            repeated: BTreeMap::new(),
            unclear: 0,
            answer: Times::new()?,
            scratch: vec![0; 256 * 1024],
        })
    }

    pub(super) fn start(&mut self, mut job: Job) -> anyhow::Result<()> {
        job.lanes = job.lanes.max(1);
        let lanes = job.lanes as usize;
        let running = Running::new(job, &self.publish, self.addresses[0], &self.token, now_us())?;
        let job = self.jobs.len();
        self.jobs.push(running);
        self.lanes.extend((0..lanes).map(|index| Lane::new(job, index)));
        Ok(())
    }

    /// Publishes to these addresses from now on; connections that are idle or break go there.
    pub(super) fn aim(&mut self, addresses: Vec<SocketAddr>) {
        if addresses == self.addresses || addresses.is_empty() {
            return;
        }
        self.addresses = addresses;
        for job in &mut self.jobs {
            job.aim(&self.publish, self.addresses[0]);
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.asked.is_empty()) {
            lane.stream = None;
            lane.connected = false;
        }
    }

    pub(super) fn pace(&mut self, id: u32, per_second: f64) {
        let now = now_us();
        for job in self.jobs.iter_mut().filter(|job| job.job.id == id) {
            job.pace(per_second, now);
        }
    }

    /// One of the messages on the way has arrived everywhere. None: of whichever job goes by credits.
    pub(super) fn credit(&mut self, id: Option<u32>, count: u32) {
        for job in &mut self.jobs {
            if id.is_none_or(|id| id == job.job.id) {
                job.credit(count);
            }
        }
    }

    /// Nothing more falls due. What is due and waits for its connection is sent still, while that is in time.
    pub(super) fn stop(&mut self) {
        for job in &mut self.jobs {
            job.stopped = true;
        }
        self.drop_late(now_us());
    }

    /// Lets go of what should have been sent long ago, once jobs have stopped.
    fn drop_late(&mut self, now_us: u64) {
        for lane in &mut self.lanes {
            if !self.jobs.get(lane.job).is_some_and(|job| job.stopped) {
                continue;
            }
            let before = lane.waiting.len();
            lane.waiting
                .retain(|message| message.at_us.is_some_and(|at| now_us < at + IN_TIME_US));
            let behind = before - lane.waiting.len();
            if behind > 0 {
                *self.errors.entry(BEHIND.to_owned()).or_default() += behind as u64;
            }
        }
    }

    /// Whether nothing is on the way.
    pub(super) fn idle(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }

    /// Gives up connections on which a publish that can be repeated has waited too long for its answer.
    pub(super) fn look_for_late(&mut self, now_us: u64) {
        self.drop_late(now_us);
        for index in 0..self.lanes.len() {
            let asked = self.lanes[index].asked.front();
            let late = asked.is_some_and(|asked| now_us > asked.sent_us + LONGEST_ANSWER_US);
            if late && self.repeats(index) {
                self.broken(index, &"no answer in time".into());
            }
        }
    }

    fn repeats(&self, index: usize) -> bool {
        let job = self.jobs.get(self.lanes[index].job);
        job.is_some_and(|job| job.job.repeat)
    }

    /// What was sent so far, behind a stop; the connections are given up.
    pub(super) fn stopped(&mut self) -> Stopped {
        self.jobs.clear();
        self.lanes.clear();
        Stopped {
            sent: self
                .numbers
                .iter()
                .map(|(topic, number)| (*topic, *number))
                .collect(),
            failed: self.failed.clone(),
        }
    }

    /// When something is due, Unix microseconds.
    pub(super) fn next_us(&self) -> Option<u64> {
        let broken = self
            .lanes
            .iter()
            .filter(|lane| lane.stream.is_none())
            .map(|lane| lane.again_us);
        self.jobs.iter().filter_map(Running::next_us).chain(broken).min()
    }

    /// Sends what is due.
    pub(super) fn tick(&mut self, now_us: u64, registry: &Registry) {
        let Self {
            jobs, lanes, errors, ..
        } = self;
        let mut first = 0;
        for job in jobs.iter_mut() {
            let own = job.job.lanes as usize;
            let mut behind = 0;
            job.due(now_us, |lane, message| {
                if lanes[first + lane].waiting.len() < MAX_WAITING {
                    lanes[first + lane].waiting.push_back(message);
                } else {
                    behind += 1;
                }
            });
            if behind > 0 {
                *errors.entry(BEHIND.to_owned()).or_default() += behind;
            }
            first += own;
        }
        for index in 0..self.lanes.len() {
            let lane = &self.lanes[index];
            if lane.stream.is_none() && lane.again_us <= now_us {
                self.connect(index, registry);
            } else if lane.connected && (!lane.waiting.is_empty() || lane.asked.is_empty()) {
                self.pump(index);
            }
        }
    }

    fn connect(&mut self, index: usize, registry: &Registry) {
        let address = self.addresses[self.lanes[index].node % self.addresses.len()];
        if let Err(error) = self.lanes[index].connect(address, registry, Token(FIRST_LANE + index)) {
            self.broken(index, &error.into());
        }
    }

    /// The poll says something of a lane; `ending`, that there is an end behind what can be read.
    pub(super) fn event(&mut self, index: usize, readable: bool, writable: bool, ending: bool) {
        let Some(lane) = self.lanes.get_mut(index) else {
            return;
        };
        let Some(stream) = &lane.stream else { return };
        if writable && !lane.connected {
            match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => {
                    stream.set_nodelay(true).ok();
                    lane.connected = true;
                    lane.out.extend_from_slice(
                        self.publish
                            .hello
                            .render(&crate::target::Values::default())
                            .as_bytes(),
                    );
                }
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => {
                    self.broken(index, &error.into());
                    return;
                }
            }
        }
        if readable && let Err(reason) = self.read(index, ending) {
            self.broken(index, &reason);
            return;
        }
        self.pump(index);
    }

    fn read(&mut self, index: usize, ending: bool) -> Result<(), Broken> {
        let mut closing = false;
        loop {
            let Some(lane) = self.lanes.get_mut(index) else {
                return Ok(());
            };
            let Some(stream) = &mut lane.stream else {
                return Ok(());
            };
            let read = match stream.read(&mut self.scratch) {
                Ok(0) => return Err(CLOSED.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            lane.input.extend_from_slice(&self.scratch[..read]);
            closing |= self.answers(index)?;
            if read < self.scratch.len() && !ending {
                break;
            }
        }
        if closing {
            // Polite: nothing is on the way that this connection would still answer.
            let lane = &mut self.lanes[index];
            lane.stream = None;
            lane.connected = false;
            lane.again_us = 0;
            if !lane.asked.is_empty() {
                return Err(CLOSED.into());
            }
        }
        Ok(())
    }

    /// Takes the answers that are whole. True: the server closes behind the last.
    fn answers(&mut self, index: usize) -> Result<bool, Broken> {
        let now = now_us();
        let Self {
            lanes,
            jobs,
            publish,
            failed,
            published,
            errors,
            answer: times,
            ..
        } = self;
        let lane = &mut lanes[index];
        let bulk = jobs.get(lane.job).is_some_and(Running::in_bulk);
        if publish.protocol == Protocol::Bytes {
            // What ends in the middle of a line waits for its rest.
            let whole = memmem::rfind(&lane.input, b"\n").map_or(0, |end| end + 1);
            let lines = &lane.input[..whole];
            for (begin, reply) in &publish.answers {
                for _ in memmem::find_iter(lines, begin.as_bytes()) {
                    lane.out.extend_from_slice(reply.as_bytes());
                }
            }
            if let Some(ack) = &publish.ack {
                for _ in memmem::find_iter(lines, ack.as_bytes()) {
                    if let Some(asked) = lane.asked.pop_front() {
                        times.add(now.saturating_sub(asked.at_us));
                        *published += asked.stamps.len() as u64;
                    }
                }
            }
            lane.input.drain(..whole);
            return Ok(false);
        }
        let mut used = 0;
        let mut closing = false;
        loop {
            let cut = http::answer(&lane.input[used..], |status| bulk || status >= 300);
            let Some((answer, len)) = cut.map_err(|bad| Broken::from(bad.0))? else {
                break;
            };
            used += len;
            closing |= answer.last;
            let Some(asked) = lane.asked.pop_front() else {
                return Err("an answer that nothing asked for".into());
            };
            let repeats = jobs.get(lane.job).is_some_and(|job| job.job.repeat);
            if repeats && (answer.status == 429 || answer.status >= 500) {
                lane.asked.push_front(asked);
                return Err(Broken {
                    reason: format!("HTTP {}", answer.status),
                    refused: true,
                });
            }
            times.add(now.saturating_sub(asked.at_us));
            let good = (200..300).contains(&answer.status);
            let problems = match &publish.problem {
                Some(problem) if good && bulk => memmem::find_iter(&answer.body, problem.as_bytes()).count(),
                _ => 0,
            };
            if good && problems == 0 {
                *published += asked.stamps.len() as u64;
                continue;
            }
            failed.extend(asked.stamps.iter().map(|stamp| (stamp.topic, stamp.number)));
            let text = String::from_utf8_lossy(&answer.body);
            let reason = format!(
                "HTTP {}: {}",
                answer.status,
                text.chars().take(200).collect::<String>()
            );
            let count = if good {
                problems as u64
            } else {
                asked.stamps.len() as u64
            };
            *published += asked.stamps.len() as u64 - count.min(asked.stamps.len() as u64);
            *errors.entry(reason).or_default() += count;
        }
        lane.input.drain(..used);
        Ok(closing)
    }

    /// Puts requests on the wire as far as the pipeline and the kernel allow.
    fn pump(&mut self, index: usize) {
        let Self {
            lanes,
            jobs,
            numbers,
            run,
            publish,
            published,
            ..
        } = self;
        let Some(lane) = lanes.get_mut(index) else { return };
        let Some(job) = jobs.get_mut(lane.job) else { return };
        if !lane.connected {
            return;
        }
        let answered = publish.protocol == Protocol::Http || publish.ack.is_some();
        while lane.asked.len() < job.job.pipeline.max(1) as usize && lane.out.len() < 4 << 20 {
            if let Some(mut asked) = lane.again.pop_front() {
                lane.out.extend_from_slice(&asked.request);
                asked.sent_us = now_us();
                lane.asked.push_back(asked);
                continue;
            }
            let mut stamps = Vec::with_capacity(job.per_request());
            let mut at_us = None;
            while stamps.len() < job.per_request() {
                let Some(message) = lane.waiting.pop_front().or_else(|| job.next_for(lane.index)) else {
                    break;
                };
                let number = numbers.entry(message.topic).or_default();
                *number += 1;
                let sent_us = message.at_us.unwrap_or_else(now_us);
                at_us.get_or_insert(sent_us);
                stamps.push(Stamp {
                    topic: message.topic,
                    number: *number,
                    at_us: sent_us,
                });
            }
            let Some(at_us) = at_us else { break };
            let begin = lane.out.len();
            job.write(*run, &stamps, &mut lane.out);
            if answered {
                let request = if job.job.repeat {
                    lane.out[begin..].to_vec()
                } else {
                    Vec::new()
                };
                lane.asked.push_back(Asked {
                    at_us,
                    sent_us: now_us(),
                    stamps,
                    request,
                });
            } else {
                *published += stamps.len() as u64;
                if lane.out.len() > 65_536 {
                    break;
                }
            }
        }
        self.flush(index);
    }

    fn flush(&mut self, index: usize) {
        if let Err(broken) = self.lanes[index].flush() {
            self.broken(index, &broken);
        }
    }

    /// A connection ended: what was on the way may have been taken or not.
    fn broken(&mut self, index: usize, Broken { reason, refused }: &Broken) {
        let repeats = self.repeats(index);
        let lane = &mut self.lanes[index];
        lane.close(now_us() + AGAIN_US);
        lane.node += 1;
        if repeats {
            let count = lane.ask_again();
            if count > 0 {
                *self.repeated.entry(reason.clone()).or_default() += count;
                self.unclear += count - u64::from(*refused);
            }
            return;
        }
        let mut count = 0;
        for asked in lane.asked.drain(..) {
            count += asked.stamps.len() as u64;
            self.failed
                .extend(asked.stamps.iter().map(|stamp| (stamp.topic, stamp.number)));
        }
        if count > 0 {
            *self.errors.entry(format!("publishing: {reason}")).or_default() += count;
        }
    }
}

const CLOSED: &str = "the server closed the connection";

/// How long after it was due a message of an open loop is sent still, when its job has stopped, microseconds.
const IN_TIME_US: u64 = 1_000_000;

/// Messages of an open loop that were never sent.
const BEHIND: &str = "not sent in time: the server answers too slowly for this rate";

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
