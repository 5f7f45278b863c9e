//! Into the spool: what waits goes there together, as it is flushed or replicated together.

use std::{sync::Arc, time::Duration};

use fred::types::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use super::{
    SpoolError, entry,
    gate::{Gate, PERMIT},
    link::{Call, Link, LinkError, list, number, text},
};
use crate::{
    config::SpoolConfig,
    metrics::Metrics,
    model::{Accepted, NewNotification},
};

/// Requests that may wait for Redis.
const WAITING: usize = 1024;

/// Requests and notifications that go together.
const TOGETHER: usize = 128;
const NOTIFICATIONS: usize = 2000;

/// Notifications of one request at the most: they go through one script, whose answers have a bound.
const OF_ONE: usize = 4000;

/// How long answers are kept under idempotency keys: as long as in the database.
const KEYS: Duration = Duration::from_hours(24);

/// Between two looks whether other nodes gave their permits back.
const GIVE_BACK: Duration = Duration::from_millis(20);

/// When a request may go into the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// In any case: the database is away.
    Open,
    /// Only behind others.
    Behind,
}

/// When a request asks again that is held up while the last entries are taken out.
const HELD_UP: Duration = Duration::from_millis(5);

/// What became of a request.
#[derive(Debug)]
pub(super) enum Taken {
    /// One answer for each notification.
    Spooled(Vec<Accepted>),
    /// There is nothing to queue behind, and the node has a permit.
    Closed,
}

struct Job {
    mode: Mode,
    notifications: Vec<NewNotification>,
    reply: oneshot::Sender<Result<Taken, SpoolError>>,
}

/// Where requests are put. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    gate: Arc<Gate>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn start(link: Link, gate: Arc<Gate>, config: SpoolConfig, metrics: Metrics) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let working = Working {
            jobs: jobs.downgrade(),
            link,
            gate: Arc::clone(&gate),
            config,
            metrics,
        };
        tokio::spawn(working.run(waiting));
        Self { jobs, gate }
    }

    /// Spools a request: durable when this returns, and no other node stores what comes in later before it.
    pub(super) async fn take(
        &self,
        mode: Mode,
        notifications: Vec<NewNotification>,
    ) -> Result<Taken, SpoolError> {
        if let Some(reason) = self.gate.unusable() {
            return Err(SpoolError::Away { reason });
        }
        if notifications.len() > OF_ONE {
            return Err(SpoolError::Full);
        }
        let (reply, answer) = oneshot::channel();
        let job = Job {
            mode,
            notifications,
            reply,
        };
        self.jobs.try_send(job).map_err(|_| SpoolError::Full)?;
        answer.await.map_err(|_| SpoolError::Away {
            reason: "the dispatcher is stopping".to_owned(),
        })?
    }
}

struct Working {
    /// Where those go again that have to wait.
    jobs: mpsc::WeakSender<Job>,
    link: Link,
    gate: Arc<Gate>,
    config: SpoolConfig,
    metrics: Metrics,
}

impl Working {
    async fn run(self, mut waiting: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(TOGETHER);
        loop {
            let Some(first) = waiting.recv().await else { return };
            let mut count = first.notifications.len();
            jobs.push(first);
            while jobs.len() < TOGETHER
                && count < NOTIFICATIONS
                && let Ok(next) = waiting.try_recv()
            {
                count += next.notifications.len();
                jobs.push(next);
            }
            self.together(std::mem::take(&mut jobs)).await;
        }
    }

    async fn together(&self, jobs: Vec<Job>) {
        let began = Instant::now();
        let asked = self.gate.ask(began);
        let mut calls = Vec::with_capacity(jobs.len());
        let mut sent = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.call(&asked.permit, &job) {
                Ok(call) => {
                    calls.push(call);
                    sent.push(job);
                }
                Err(error) => job.answer(Err(SpoolError::Away {
                    reason: format!("it cannot be written down: {error}"),
                })),
            }
        }
        if sent.is_empty() {
            return;
        }
        let answers = match self.link.commit(calls).await {
            Ok(answers) => answers,
            Err(error) => {
                let reason = error.to_string();
                // Where only replicas are missing, Redis answers, and the next look says how it is.
                if matches!(error, LinkError::Redis(_)) {
                    self.gate.away(reason.clone());
                }
                for job in sent {
                    let reason = reason.clone();
                    job.answer(Err(SpoolError::Unclear { reason }));
                }
                return;
            }
        };
        let mut waiting = Vec::new();
        let mut give_back = None;
        for (job, answer) in sent.into_iter().zip(answers) {
            let answer = answer.map(Answer::read);
            match answer {
                Ok(Some(Answer::Closed)) => {
                    self.gate.granted(&asked);
                    job.answer(Ok(Taken::Closed));
                }
                Ok(Some(Answer::Wait)) => job.wait(self.jobs.clone()),
                Ok(Some(Answer::Full)) => job.answer(Err(SpoolError::Full)),
                Ok(Some(Answer::Taken { others, accepted })) => {
                    give_back = self.gate.spooled().or(give_back);
                    let new = accepted.iter().filter(|one| **one == Accepted::Spooled).count();
                    self.metrics.spooled.inc_by(new as u64);
                    if others == 0 {
                        job.answer(Ok(Taken::Spooled(accepted)));
                    } else {
                        waiting.push((job, accepted));
                    }
                }
                Ok(None) => job.answer(Err(SpoolError::Unclear {
                    reason: "redis gave an answer that is none".to_owned(),
                })),
                Err(error) => job.answer(Err(SpoolError::Away {
                    reason: error.to_string(),
                })),
            }
        }
        if give_back.is_some() || !waiting.is_empty() {
            let (link, gate) = (self.link.clone(), Arc::clone(&self.gate));
            // All permits that were granted before this end by themselves until then.
            let until = Instant::now() + PERMIT;
            tokio::spawn(async move {
                others_gone(&link, &gate, give_back, !waiting.is_empty(), until).await;
                for (job, accepted) in waiting {
                    job.answer(Ok(Taken::Spooled(accepted)));
                }
            });
        }
    }

    fn call(&self, permit: &str, job: &Job) -> Result<Call, serde_json::Error> {
        let names = self.link.names();
        let mode = match job.mode {
            Mode::Open => "open",
            Mode::Behind => "behind",
        };
        let call = Call::new(
            include_str!("scripts/append.lua"),
            &[&names.entries, &names.state, &names.permits, &names.closing],
        )
        .with(mode)
        .with(self.gate.node())
        .with(permit)
        .with(PERMIT.as_millis().to_string())
        .with(self.config.max_notifications.to_string())
        .with(self.config.max_bytes.0.to_string())
        .with(KEYS.as_millis().to_string());
        entry::lay_out(call, names, &job.notifications)
    }
}

impl Job {
    /// Asks again in a moment.
    fn wait(self, jobs: mpsc::WeakSender<Job>) {
        tokio::spawn(async move {
            sleep(HELD_UP).await;
            match jobs.upgrade().map(|jobs| jobs.try_send(self)) {
                None | Some(Ok(())) => {}
                Some(Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job))) => {
                    job.answer(Err(SpoolError::Full));
                }
            }
        });
    }

    fn answer(self, answer: Result<Taken, SpoolError>) {
        // Who no longer waits has lost only the answer.
        drop(self.reply.send(answer));
    }
}

/// Waits until no other node holds a permit, or all have ended by themselves.
async fn others_gone(link: &Link, gate: &Gate, mut give_back: Option<String>, wait: bool, until: Instant) {
    loop {
        let permit = give_back.take().unwrap_or_default();
        let call = permits(link, gate, &permit);
        let others = tokio::time::timeout_at(until, link.run(call)).await;
        match others {
            Ok(Ok(value)) if !wait || number(&value) == 0 => return,
            Err(_) => return,
            _ if Instant::now() >= until || !wait => return,
            _ => sleep(GIVE_BACK).await,
        }
    }
}

/// Gives a permit back, where one is named, and counts those of other nodes.
pub(super) fn permits(link: &Link, gate: &Gate, permit: &str) -> Call {
    Call::new(include_str!("scripts/permits.lua"), &[&link.names().permits])
        .with(gate.node())
        .with(permit)
}

#[derive(Debug, PartialEq)]
enum Answer {
    Closed,
    Wait,
    Full,
    Taken { others: i64, accepted: Vec<Accepted> },
}

impl Answer {
    /// What append.lua says.
    fn read(value: Value) -> Option<Self> {
        let mut parts = list(value).into_iter();
        match text(&parts.next()?)?.as_str() {
            "closed" => Some(Self::Closed),
            "wait" => Some(Self::Wait),
            "full" => Some(Self::Full),
            "taken" => {
                let others = number(&parts.next()?);
                let accepted = parts.map(|one| accepted(&text(&one)?)).collect::<Option<_>>()?;
                Some(Self::Taken { others, accepted })
            }
            _ => None,
        }
    }
}

fn accepted(answer: &str) -> Option<Accepted> {
    match answer {
        "" => Some(Accepted::Spooled),
        "?" => Some(Accepted::Mismatch),
        _ => {
            let (status, response) = entry::told(answer.strip_prefix('=')?)?;
            Some(Accepted::Repeat { status, response })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_or_refused() {
        let words = |words: &[&str]| Value::Array(words.iter().map(|word| (*word).into()).collect());
        assert_eq!(Answer::read(words(&["closed"])), Some(Answer::Closed));
        assert_eq!(Answer::read(words(&["wait"])), Some(Answer::Wait));
        assert_eq!(Answer::read(words(&["full"])), Some(Answer::Full));
        let repeat = Accepted::Repeat {
            status: 202,
            response: "{\"a\": 1}".to_owned(),
        };
        assert_eq!(
            Answer::read(words(&["taken", "2", "", "?", "=202 {\"a\": 1}"])),
            Some(Answer::Taken {
                others: 2,
                accepted: vec![Accepted::Spooled, Accepted::Mismatch, repeat],
            })
        );
        for odd in [&["taken"][..], &["taken", "0", "=x y"], &["other"], &[]] {
            assert_eq!(Answer::read(words(odd)), None, "{odd:?}");
        }
    }
}
