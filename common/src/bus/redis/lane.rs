//! A supervised connection to one server that carries commands out in order, many to a flush.
//!
//! What comes while a flush is on its way makes up the next one, so that batches grow with the load and an idle lane adds
//! no delay. Where copies are asked for, a flush ends with one `WAIT`, over the connection that carried its commands.
//! Nothing is ever sent twice here: a connection that breaks leaves what was under way unclear.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis_protocol::resp3::types::BytesFrame;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{
    link::{Dialing, Link, LinkError, Place, Reader, Writer},
    metrics::BusMetrics,
    scripts,
    wire::{Commands, Refusal, list, number, text},
};
use crate::backoff::Backoff;

/// Commands of one flush.
const FLUSH: usize = 512;

/// Bytes after which a flush is large enough.
const FLUSH_BYTES: usize = 1024 * 1024;

/// Bytes of commands that may wait for a server.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Flushes on their way: while one is worked on, the next is written.
const ON_THE_WAY: usize = 2;

/// A connection that held for so long was a good one.
const STEADY: Duration = Duration::from_secs(10);

const RECONNECT: Backoff = Backoff {
    base: Duration::from_millis(50),
    factor: 2.0,
    max: Duration::from_secs(1),
};

/// Why a job has no replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing was sent.
    Away,
    /// Nothing was sent: too much waits already.
    Full,
    /// There was no answer in time: it waits, or is under way, or was done.
    Late,
    /// The connection broke: it may have been done, or not.
    Unclear,
}

/// What was said to a job.
#[derive(Debug)]
pub(super) struct Replies {
    pub(super) frames: Vec<BytesFrame>,
    /// As many replicas as are asked for have what was done.
    pub(super) copied: bool,
}

/// Commands, and who waits for what is said to them.
#[derive(Debug)]
struct Job {
    commands: Commands,
    /// Success needs copies.
    durable: bool,
    /// None for a sign of life.
    answer: Option<oneshot::Sender<Result<Replies, Fault>>>,
    /// Gives back its room in the queue.
    _room: Option<Room>,
}

impl Job {
    /// Who does not wait any more has been told that nothing was done.
    fn is_given_up(&self) -> bool {
        self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    fn answer(self, answer: Result<Replies, Fault>) {
        if let Some(to) = self.answer {
            // Who has gone meanwhile needs none.
            drop(to.send(answer));
        }
    }
}

/// What a lane is made with.
#[derive(Debug, Clone)]
pub(super) struct LaneOptions {
    pub(super) dialing: Dialing,
    /// Replicas that durable jobs wait for.
    pub(super) replicas: u8,
    /// Jobs that may wait.
    pub(super) queue: usize,
    /// An idle connection is asked for a sign of life so often.
    pub(super) idle: Duration,
    /// Told when something is wrong with the server.
    pub(super) trouble: Arc<Notify>,
    pub(super) metrics: BusMetrics,
}

/// A handle; the connection ends with the last.
#[derive(Debug)]
pub(super) struct Lane {
    jobs: mpsc::Sender<Job>,
    up: Arc<AtomicBool>,
    /// None while it is up.
    down_since: watch::Receiver<Option<Instant>>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// Bytes of a job that waits or is under way.
#[derive(Debug)]
struct Room {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    fn take(waiting: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        let room = Self {
            waiting: Arc::clone(waiting),
            bytes,
        };
        // One that is larger than all room goes alone.
        (before == 0 || before + bytes <= QUEUE_BYTES).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Lane {
    pub(super) fn start(place: Place, options: LaneOptions) -> Self {
        let (jobs, waiting) = mpsc::channel(options.queue);
        let (down, down_since) = watch::channel(Some(Instant::now()));
        let up = Arc::new(AtomicBool::new(false));
        let keeper = Keeper {
            place,
            options,
            waiting,
            up: Arc::clone(&up),
            down,
        };
        tokio::spawn(keeper.run());
        Self {
            jobs,
            up,
            down_since,
            waiting_bytes: Arc::default(),
        }
    }

    /// Whether it is connected.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// For how long it has not been.
    pub(super) fn down_for(&self) -> Duration {
        self.down_since
            .borrow()
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Puts commands into the queue at once, and answers when they are done; in the order of the calls, not of the awaits.
    pub(super) fn call(
        &self,
        commands: Commands,
        durable: bool,
    ) -> impl Future<Output = Result<Replies, Fault>> + use<> {
        let (answer, answered) = oneshot::channel();
        let refused = if !self.is_up() {
            Some(Fault::Away)
        } else if let Some(room) = Room::take(&self.waiting_bytes, commands.bytes().len()) {
            let job = Job {
                commands,
                durable,
                answer: Some(answer),
                _room: Some(room),
            };
            self.jobs.try_send(job).err().map(|_| Fault::Full)
        } else {
            Some(Fault::Full)
        };
        async move {
            match refused {
                Some(fault) => Err(fault),
                // A job that was dropped was under way when the connection broke.
                None => answered.await.unwrap_or(Err(Fault::Unclear)),
            }
        }
    }
}

/// The lane's task.
struct Keeper {
    place: Place,
    options: LaneOptions,
    waiting: mpsc::Receiver<Job>,
    up: Arc<AtomicBool>,
    down: watch::Sender<Option<Instant>>,
}

impl Keeper {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let error = match self.connect().await {
                Ok(link) => {
                    self.up.store(true, Ordering::Release);
                    self.down.send_replace(None);
                    let began = Instant::now();
                    let ended = self.serve(link).await;
                    self.up.store(false, Ordering::Release);
                    match ended {
                        Ok(()) => return,
                        Err(error) => {
                            // Who is cut off again and again comes back more and more slowly.
                            if began.elapsed() > STEADY {
                                failures = 0;
                            }
                            self.options.metrics.reconnects.inc();
                            self.down.send_replace(Some(Instant::now()));
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            failures += 1;
            if failures == 1 {
                tracing::warn!(server = %self.place, %error, "a connection to Redis is lost, or cannot be made");
            }
            self.options.trouble.notify_one();
            if !self.turn_away(RECONNECT.delay(failures, fastrand::f64())).await {
                return;
            }
        }
    }

    async fn connect(&self) -> Result<Link, LinkError> {
        let dialing = &self.options.dialing;
        let mut link = Link::connect(&self.place, dialing).await?;
        let mut commands = Commands::default();
        commands.push(&[b"ROLE"]);
        for script in scripts::ALL {
            commands.push(&[b"SCRIPT", b"LOAD", script.source.as_bytes()]);
        }
        let replies = link.call(&commands, dialing.timeout).await?;
        for reply in &replies {
            if let Some(refusal) = Refusal::in_reply(reply) {
                return Err(LinkError::Unfit(format!("{refusal:?}")));
            }
        }
        let role = replies
            .first()
            .and_then(list)
            .and_then(|role| text(role.first()?));
        if role == Some("master") {
            Ok(link)
        } else {
            Err(LinkError::Unfit("it is not a primary".to_owned()))
        }
    }

    /// Fails what waits, for so long; false when nobody is left who could ask.
    async fn turn_away(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            match timeout_at(until, self.waiting.recv()).await {
                Err(_) => return true,
                Ok(None) => return false,
                Ok(Some(job)) => job.answer(Err(Fault::Away)),
            }
        }
    }

    /// Carries jobs out until the connection breaks, or nobody is left who could ask.
    async fn serve(&mut self, link: Link) -> Result<(), LinkError> {
        let Link { reader, writer } = link;
        let (flushes, on_the_way) = mpsc::channel(ON_THE_WAY);
        let wait = self.options.dialing.timeout;
        tokio::select! {
            ended = write(&mut self.waiting, writer, flushes, &self.options) => ended,
            ended = read(reader, on_the_way, wait, self.options.replicas) => ended,
        }
    }
}

/// Jobs whose commands were written together.
struct Flush {
    jobs: Vec<Job>,
    /// There is a `WAIT` behind them.
    waits: bool,
    /// When all has to be answered.
    until: Instant,
}

async fn write(
    waiting: &mut mpsc::Receiver<Job>,
    mut writer: Writer,
    flushes: mpsc::Sender<Flush>,
    options: &LaneOptions,
) -> Result<(), LinkError> {
    let within = options.dialing.timeout;
    // A replica that is a little late is worth waiting for; the rest of the time is for the commands.
    let patience = patience(within).as_millis().max(1).to_string();
    let replicas = options.replicas.to_string();
    loop {
        let Ok(permit) = flushes.reserve().await else {
            return Err(LinkError::Broken("the reading side ended".to_owned()));
        };
        let first = match timeout(options.idle, waiting.recv()).await {
            Ok(None) => return Ok(()),
            Ok(Some(job)) => job,
            Err(_) => ping(),
        };
        let mut commands = Commands::default();
        let mut jobs = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            if !job.is_given_up() {
                commands.append(&job.commands);
                jobs.push(job);
            }
            let full = commands.count() >= FLUSH || commands.bytes().len() >= FLUSH_BYTES;
            next = if full { None } else { waiting.try_recv().ok() };
        }
        if jobs.is_empty() {
            continue;
        }
        options.metrics.flushes.inc();
        options.metrics.commands.inc_by(commands.count() as u64);
        let waits = options.replicas > 0 && jobs.iter().any(|job| job.durable);
        if waits {
            commands.push(&[b"WAIT", replicas.as_bytes(), patience.as_bytes()]);
        }
        // First what is expected, then what brings it: no reply may come before somebody knows whose it is.
        permit.send(Flush {
            jobs,
            waits,
            until: Instant::now() + within,
        });
        timeout(within, writer.send(&commands))
            .await
            .map_err(|_| LinkError::TimedOut)??;
    }
}

/// How long `WAIT` may wait: well within the time in which its flush has to be answered.
fn patience(within: Duration) -> Duration {
    within / 2
}

/// A sign of life that nobody waits for.
fn ping() -> Job {
    let mut commands = Commands::default();
    commands.push(&[b"PING"]);
    Job {
        commands,
        durable: false,
        answer: None,
        _room: None,
    }
}

async fn read(
    mut reader: Reader,
    mut on_the_way: mpsc::Receiver<Flush>,
    within: Duration,
    replicas: u8,
) -> Result<(), LinkError> {
    loop {
        let flush = tokio::select! {
            biased;
            flush = on_the_way.recv() => flush,
            // Nothing is expected: a push, or the end.
            frame = reader.next() => {
                frame?;
                continue;
            }
        };
        let Some(Flush { jobs, waits, until }) = flush else {
            return Ok(());
        };
        // The one before may have used up its time with waiting for replicas, which is not this one's.
        let until = until.max(Instant::now() + within);
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            let mut replies = Vec::with_capacity(job.commands.count());
            while replies.len() < job.commands.count() {
                replies.push(reply(&mut reader, until).await?);
            }
            answers.push((job, replies));
        }
        let copied = !waits || number(&reply(&mut reader, until).await?) >= Some(u64::from(replicas));
        for (job, frames) in answers {
            job.answer(Ok(Replies { frames, copied }));
        }
    }
}

async fn reply(reader: &mut Reader, until: Instant) -> Result<BytesFrame, LinkError> {
    loop {
        let frame = match reader.buffered()? {
            Some(frame) => frame,
            None => timeout_at(until, reader.next())
                .await
                .map_err(|_| LinkError::TimedOut)??,
        };
        if !matches!(frame, BytesFrame::Push { .. }) {
            return Ok(frame);
        }
    }
}
