//! What is to be published, and how a message of it becomes bytes.

use std::{collections::VecDeque, fmt::Write, net::SocketAddr};

use anyhow::{Context, bail};

use crate::{
    payload::Payloads,
    stamp::{Kind, Stamp, Topic},
    target::{Bulk, Protocol, Publish, Pusher, Request, Template, Values},
    times::now_us,
    wire::{Form, Job, Pace, To},
};

/// Messages that wait for a connection at the most; more would only hide that the server does not keep up.
pub(super) const MAX_WAITING: usize = 100_000;

/// A message that waits for its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub(super) topic: Topic,
    /// When it should be sent, Unix microseconds; none: when it is.
    pub(super) at_us: Option<u64>,
}

/// A job at work.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) job: Job,
    request: Request,
    bulk: Option<Bulk>,
    pub(super) protocol: Protocol,
    pusher: Option<Pusher>,
    host: String,
    token: String,
    /// Between the path and the length.
    head: String,
    pub(super) stopped: bool,
    /// Messages that were asked for so far.
    asked: u64,
    credits: u32,
    /// When the next message is due, Unix microseconds.
    due_us: f64,
    payloads: Payloads,
    text: String,
    payload: String,
    extra: String,
}

impl Running {
    pub(super) fn new(
        mut job: Job,
        publish: &Publish,
        address: SocketAddr,
        token: &str,
        now: u64,
    ) -> anyhow::Result<Self> {
        let request = match job.to {
            To::All => &publish.all,
            To::Users { .. } => &publish.user,
            To::Roles { .. } => &publish.role,
            To::Stores { .. } => &publish.store,
            To::Topics { .. } => &publish.topic,
        };
        let Some(request) = request.clone() else {
            bail!("the description says nothing about publishing to {:?}", job.to);
        };
        let bulk = match job.form {
            Form::Single => None,
            Form::Batch(_) => Some(publish.batch.clone().context("the description has no `batch`")?),
            Form::Lines(_) => Some(publish.lines.clone().context("the description has no `lines`")?),
        };
        if publish.one_at_a_time {
            job.pipeline = 1;
        }
        let mut running = Self {
            request,
            bulk,
            protocol: publish.protocol,
            pusher: publish.pusher.clone(),
            host: String::new(),
            token: token.to_owned(),
            head: String::new(),
            stopped: false,
            asked: 0,
            credits: match job.pace {
                Pace::Credits(count) => count,
                _ => 0,
            },
            due_us: now as f64,
            payloads: Payloads::new(job.size, fastrand::Rng::new()),
            text: String::new(),
            payload: String::new(),
            extra: String::new(),
            job,
        };
        running.aim(publish, address);
        Ok(running)
    }

    /// Sends to this address from now on.
    pub(super) fn aim(&mut self, publish: &Publish, address: SocketAddr) {
        self.host = address.to_string();
        let values = Values {
            host: &self.host,
            token: &self.token,
            ..Values::default()
        };
        let mut head = format!(" HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in &publish.headers {
            // A bulk request has a type of its own.
            let value = match &self.bulk {
                Some(bulk) if name.eq_ignore_ascii_case("content-type") => bulk.content_type.clone(),
                _ => value.render(&values),
            };
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.head = head;
    }

    /// Changes the pace of a job that goes by the clock.
    pub(super) fn pace(&mut self, per_second: f64, now: u64) {
        self.job.pace = Pace::PerSecond(per_second);
        self.due_us = self.due_us.max(now as f64);
    }

    pub(super) fn credit(&mut self, count: u32) {
        self.credits += count;
    }

    /// Whether another message may be asked for.
    fn open(&self) -> bool {
        !self.stopped && (self.job.limit == 0 || self.asked < self.job.limit)
    }

    /// When this job wants to be called again, Unix microseconds.
    pub(super) fn next_us(&self) -> Option<u64> {
        match self.job.pace {
            Pace::PerSecond(rate) if rate > 0.0 && self.open() => Some(self.due_us as u64),
            _ => None,
        }
    }

    /// The messages that are due, with the connection of each.
    pub(super) fn due(&mut self, now: u64, mut on: impl FnMut(usize, Message)) {
        match self.job.pace {
            Pace::PerSecond(rate) if rate > 0.0 => {
                while self.open() && self.due_us <= now as f64 {
                    let at_us = Some(self.due_us as u64);
                    self.due_us += 1e6 / rate;
                    self.asked += 1;
                    let (lane, topic) = self.pick(None);
                    on(lane, Message { topic, at_us });
                }
            }
            Pace::Credits(_) => {
                while self.open() && self.credits > 0 {
                    self.credits -= 1;
                    self.asked += 1;
                    let (lane, topic) = self.pick(None);
                    on(lane, Message { topic, at_us: None });
                }
            }
            _ => {}
        }
    }

    /// The next message for a free connection of a job that goes by answers.
    pub(super) fn next_for(&mut self, lane: usize) -> Option<Message> {
        if !self.open() || !matches!(self.job.pace, Pace::Answers) {
            return None;
        }
        self.asked += 1;
        let (_, topic) = self.pick(Some(lane as u32));
        Some(Message { topic, at_us: None })
    }

    /// A topic by chance. Each belongs to one connection: two could not say in which order they write.
    fn pick(&self, lane: Option<u32>) -> (usize, Topic) {
        let (first, count) = match self.job.to {
            To::All => (0, 1),
            To::Users { first, count } | To::Topics { first, count } => (first, count),
            To::Roles { count } | To::Stores { count } => (0, count),
        };
        let lanes = self.job.lanes;
        let index = match lane {
            None => fastrand::u32(..count),
            Some(lane) if lane < count => lane + lanes * fastrand::u32(..(count - lane).div_ceil(lanes)),
            Some(_) => 0,
        };
        let number = first + index;
        let topic = match self.job.to {
            To::All => Topic::ALL,
            To::Users { .. } => Topic::user(number),
            To::Roles { .. } => Topic::role(number),
            To::Stores { .. } => Topic::store(number),
            To::Topics { .. } => Topic::explicit(number),
        };
        ((index % lanes) as usize, topic)
    }

    /// Messages of one request at the most.
    pub(super) fn per_request(&self) -> usize {
        match self.job.form {
            Form::Single => 1,
            Form::Batch(count) | Form::Lines(count) => count.max(1) as usize,
        }
    }

    /// Appends one request with these messages.
    pub(super) fn write(&mut self, run: u32, stamps: &[Stamp], out: &mut Vec<u8>) {
        self.text.clear();
        let (mut before, mut between, mut after) = ("", "", "");
        if let Some(bulk) = &self.bulk {
            (before, between, after) = (&bulk.before, &bulk.between, &bulk.after);
        }
        self.text.push_str(before);
        for (index, stamp) in stamps.iter().enumerate() {
            if index > 0 {
                self.text.push_str(between);
            }
            self.payload.clear();
            self.payloads.write(run, *stamp, &mut self.payload);
            self.extra.clear();
            self.extra.push_str(&self.job.extra);
            if self.job.keys > 0 {
                // Writing to a string cannot fail.
                write!(self.extra, ",\"conflate\":\"k{}\"", stamp.number % self.job.keys).ok();
            }
            if self.job.repeat {
                let (label, number) = (stamp.topic.label(), stamp.number);
                write!(self.extra, ",\"idempotency_key\":\"{run:x}-{label}-{number}\"").ok();
            }
            let values = values(&self.host, &self.token, &self.payload, &self.extra, stamp.topic);
            self.request.body.render_into(&values, &mut self.text);
        }
        self.text.push_str(after);
        if self.protocol == Protocol::Http {
            let path: &Template = self.bulk.as_ref().map_or(&self.request.path, |bulk| &bulk.path);
            let topic = stamps.first().map_or(Topic::ALL, |stamp| stamp.topic);
            let mut path = path.render(&values(&self.host, &self.token, "", "", topic));
            if let Some(pusher) = &self.pusher {
                path = pusher.signed(&path, self.text.as_bytes(), now_us() / 1_000_000);
            }
            let method = if self.bulk.is_some() {
                "POST"
            } else {
                &self.request.method
            };
            for part in [method, " ", &path, &self.head] {
                out.extend_from_slice(part.as_bytes());
            }
            out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.text.len()).as_bytes());
        }
        out.extend_from_slice(self.text.as_bytes());
    }

    /// Whether the body of a good answer has to be looked at.
    pub(super) fn in_bulk(&self) -> bool {
        self.bulk.is_some()
    }
}

fn values<'a>(host: &'a str, token: &'a str, payload: &'a str, extra: &'a str, topic: Topic) -> Values<'a> {
    let number = topic.number();
    let of = |kind| if topic.kind() == kind { number } else { 0 };
    Values {
        host,
        token,
        payload,
        extra,
        user: of(Kind::User),
        role: of(Kind::Role),
        store: of(Kind::Store),
        topic: of(Kind::Explicit),
        ..Values::default()
    }
}

/// Messages that wait for one connection.
pub(super) type Waiting = VecDeque<Message>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    fn running(to: To, pace: Pace, form: Form, lanes: u32) -> Running {
        let job = Job {
            id: 1,
            to,
            pace,
            form,
            lanes,
            pipeline: 1,
            size: 0,
            limit: 0,
            keys: 3,
            extra: String::new(),
            repeat: false,
        };
        let publish = Target::carillon().unwrap().publish;
        Running::new(job, &publish, ([127, 0, 0, 1], 80).into(), "tok", 1_000_000).unwrap()
    }

    const USERS: To = To::Users {
        first: 100,
        count: 10,
    };

    #[test]
    fn the_clock_decides_how_many_are_due_and_for_when() {
        let mut job = running(USERS, Pace::PerSecond(1000.0), Form::Single, 4);
        let mut due = Vec::new();
        job.due(1_002_500, |_, message| due.push(message.at_us));
        assert_eq!(due, [Some(1_000_000), Some(1_001_000), Some(1_002_000)]);
        assert_eq!(job.next_us(), Some(1_003_000));
        job.stopped = true;
        assert_eq!(job.next_us(), None);
    }

    #[test]
    fn a_topic_stays_on_its_connection() {
        let mut job = running(USERS, Pace::Answers, Form::Single, 4);
        for lane in 0..4 {
            for _ in 0..50 {
                let topic = job.next_for(lane).unwrap().topic;
                assert_eq!((topic.number() - 100) % 4, lane as u32);
                assert!((100..110).contains(&topic.number()));
            }
        }
        let mut timed = running(USERS, Pace::PerSecond(1e6), Form::Single, 4);
        timed.due(1_000_100, |lane, message| {
            assert_eq!((message.topic.number() - 100) % 4, lane as u32);
        });
    }

    #[test]
    fn credits_are_spent_once() {
        let mut job = running(To::All, Pace::Credits(2), Form::Single, 1);
        let mut count = 0;
        job.due(0, |_, _| count += 1);
        job.credit(1);
        job.due(0, |_, _| count += 1);
        assert_eq!(count, 3);
    }

    #[test]
    fn requests_are_those_of_the_description() {
        let stamp = Stamp {
            topic: Topic::user(7),
            number: 4,
            at_us: 5,
        };
        let mut out = Vec::new();
        running(USERS, Pace::Answers, Form::Single, 1).write(1, &[stamp], &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("POST /api/v1/publish HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"),
            "{head}"
        );
        assert!(head.contains("Authorization: Bearer tok\r\n"), "{head}");
        assert!(
            head.ends_with(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        assert!(
            body.starts_with(r#"{"to":{"user":"u7"},"data":{"stamp":"@00000001."#),
            "{body}"
        );
        assert!(body.ends_with(r#"@"},"conflate":"k1"}"#), "{body}");

        let mut out = Vec::new();
        running(USERS, Pace::Answers, Form::Lines(2), 1).write(1, &[stamp, stamp], &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Content-Type: application/x-ndjson\r\n"), "{head}");
        assert_eq!(body.lines().count(), 2);
    }
}
