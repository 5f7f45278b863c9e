//! What operators ask of sessions and do to them.
//!
//! Looking at many sessions is work like writing to them: it is done in steps of half a millisecond, between which messages
//! and other inputs are served. Several questions take turns.

mod describe;
mod farewell;
mod listing;
mod plans;
mod selection;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    ids::Name,
    protocol::{Close, Dialect, ServerFrame},
    topic::TopicKey,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

pub(crate) use self::{
    describe::{Described, SessionInfo},
    farewell::{Advice, Farewell, MAX_TEXT},
    listing::{Counted, Page},
    selection::Selection,
};
use self::{
    listing::{Attendance, Picked},
    plans::{Planning, Plans},
    selection::Walk,
};
use super::{
    SessionId, Worker,
    session::{Phase, Session},
    wheel::Due,
};

/// A step yields after so long.
const STEP: Duration = Duration::from_micros(500);

/// Sessions between two looks at the clock.
const STRIDE: usize = 8;

/// Bounds what runs at once on a node; given back when the last worker is done. Closes that wait for their second hold none:
/// they are bounded by the sessions.
pub(crate) type Permit = Arc<OwnedSemaphorePermit>;

/// One question or order of an operator.
#[derive(Debug)]
pub(crate) struct Job {
    selection: Arc<Selection>,
    task: Task,
    /// None where planned closes are carried out.
    permit: Option<Permit>,
    walk: Walk,
    /// The newest session when it began: who comes back while sessions are closed is not closed again.
    newest: u32,
    /// Sessions to look at next.
    ready: Vec<u32>,
    /// Sessions that were chosen before: they are not matched again.
    given: std::vec::IntoIter<SessionId>,
}

/// What is done with each session of the selection.
#[derive(Debug)]
pub(crate) enum Task {
    /// They are counted.
    Count {
        count: usize,
        answer: oneshot::Sender<usize>,
    },
    /// A page of them is described.
    List(Listing),
    /// Their users are counted.
    Presence(Presence),
    /// They are closed; the answer says how many were told, or will be.
    Disconnect(Disconnect),
    /// They leave a topic; the answer says how many had it.
    Unsubscribe {
        topic: Name,
        count: usize,
        answer: oneshot::Sender<usize>,
    },
    /// They have to bring a newer token within so many seconds; the answer says how many were told.
    Refresh {
        within: u32,
        count: usize,
        answer: oneshot::Sender<usize>,
    },
    /// Second part of [`Task::List`].
    Describe(describe::Page, oneshot::Sender<Described>),
    /// Second part of [`Task::Disconnect`].
    Close(Arc<Farewell>),
    /// The same where the closes are spread over time: each session is given its second.
    Plan(Planning),
    /// The second has come.
    ClosePlanned,
}

#[derive(Debug)]
pub(crate) struct Listing {
    picked: Picked,
    answer: oneshot::Sender<Described>,
}

#[derive(Debug)]
pub(crate) struct Presence {
    attendance: Attendance,
    answer: oneshot::Sender<Counted>,
}

#[derive(Debug)]
pub(crate) struct Disconnect {
    farewell: Arc<Farewell>,
    spread_seconds: u32,
    sessions: Vec<SessionId>,
    answer: oneshot::Sender<usize>,
}

impl Task {
    pub(crate) fn count(answer: oneshot::Sender<usize>) -> Self {
        Self::Count { count: 0, answer }
    }

    pub(crate) fn list(page: Page<Box<str>>, answer: oneshot::Sender<Described>) -> Self {
        Self::List(Listing {
            picked: Picked::new(page),
            answer,
        })
    }

    pub(crate) fn presence(page: Page<TopicKey>, answer: oneshot::Sender<Counted>) -> Self {
        Self::Presence(Presence {
            attendance: Attendance::new(page),
            answer,
        })
    }

    pub(crate) fn disconnect(
        farewell: Arc<Farewell>,
        spread_seconds: u32,
        answer: oneshot::Sender<usize>,
    ) -> Self {
        Self::Disconnect(Disconnect {
            farewell,
            spread_seconds,
            sessions: Vec::new(),
            answer,
        })
    }

    pub(crate) fn unsubscribe(topic: Name, answer: oneshot::Sender<usize>) -> Self {
        Self::Unsubscribe {
            topic,
            count: 0,
            answer,
        }
    }

    pub(crate) fn refresh(within: u32, answer: oneshot::Sender<usize>) -> Self {
        Self::Refresh {
            within,
            count: 0,
            answer,
        }
    }

    /// Whether nobody waits for what it finds. Orders are carried out all the same.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Count { answer, .. } => answer.is_closed(),
            Self::List(Listing { answer, .. }) | Self::Describe(_, answer) => answer.is_closed(),
            Self::Presence(Presence { answer, .. }) => answer.is_closed(),
            Self::Disconnect(_)
            | Self::Unsubscribe { .. }
            | Self::Refresh { .. }
            | Self::Close(_)
            | Self::Plan(_)
            | Self::ClosePlanned => false,
        }
    }
}

impl Job {
    pub(crate) fn new(selection: Arc<Selection>, task: Task, permit: Permit) -> Self {
        Self {
            selection,
            task,
            permit: Some(permit),
            walk: Walk::Done,
            newest: 0,
            ready: Vec::new(),
            given: Vec::new().into_iter(),
        }
    }

    fn on(given: Vec<SessionId>, task: Task, permit: Option<Permit>, selection: Arc<Selection>) -> Self {
        Self {
            selection,
            task,
            permit,
            walk: Walk::Done,
            newest: 0,
            ready: Vec::new(),
            given: given.into_iter(),
        }
    }
}

/// What operators have under way on a worker. Jobs are bounded by the node's permits, plans and the jobs that carry them out by
/// the sessions.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    running: std::collections::VecDeque<Job>,
    plans: Plans,
}

impl Jobs {
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

impl Worker {
    /// Takes what an operator asks.
    pub(super) fn begin_job(&mut self, mut job: Job) {
        job.newest = self.generation;
        job.walk = match job.selection.users() {
            Some(users) => Walk::Users(users.into_iter()),
            None => Walk::Numbers {
                next: 0,
                end: self.sessions.capacity() as u32,
            },
        };
        self.jobs.running.push_back(job);
    }

    /// Goes on with one job for at most half a millisecond.
    pub(super) fn step_job(&mut self) {
        let Some(mut job) = self.jobs.running.pop_front() else {
            return;
        };
        if job.task.is_abandoned() {
            return;
        }
        let began = Instant::now();
        let selection = Arc::clone(&job.selection);
        let matcher = selection.matcher(&self.index);
        loop {
            for _ in 0..STRIDE {
                if let Some(id) = job.given.next() {
                    self.visit(&mut job.task, id);
                } else if let Some(slot) = job.ready.pop() {
                    let session = self.sessions.get(slot as usize);
                    let older = |session: &&Session| !is_newer(session.generation, job.newest);
                    if let Some(session) = session.filter(older).filter(|session| matcher.fits(session)) {
                        let id = SessionId {
                            slot,
                            generation: session.generation,
                        };
                        self.visit(&mut job.task, id);
                    }
                } else if !job.walk.next(&self.index, &mut job.ready) {
                    self.finish(job);
                    return;
                }
            }
            if began.elapsed() >= STEP {
                self.jobs.running.push_back(job);
                return;
            }
        }
    }

    fn visit(&mut self, task: &mut Task, id: SessionId) {
        match task {
            Task::Count { count, .. } => *count += 1,
            Task::List(Listing { picked, .. }) => {
                if let Some(session) = self.session_ref(id) {
                    picked.add(&session.who.reader.session, id);
                }
            }
            Task::Presence(Presence { attendance, .. }) => {
                let session = self.session_ref(id);
                if let Some(user) = session.and_then(|session| session.who.reader.keys.first()) {
                    attendance.add(user);
                }
            }
            Task::Disconnect(disconnect) => {
                disconnect.sessions.push(id);
            }
            Task::Unsubscribe { topic, count, .. } => *count += usize::from(self.take_out(id, topic)),
            Task::Refresh { within, count, .. } => *count += usize::from(self.demand_token(id, *within)),
            Task::Describe(page, _) => self.describe(id, page),
            Task::Close(farewell) => {
                self.close_with(id, farewell.code, &farewell.reason(), Close::Disconnected.label());
            }
            Task::Plan(planning) => {
                let (at, farewell) = planning.next();
                if self
                    .session_ref(id)
                    .is_some_and(|session| session.phase != Phase::Closing)
                {
                    self.jobs.plans.add(id, at, farewell);
                }
            }
            Task::ClosePlanned => {
                if let Some(farewell) = self.jobs.plans.take(id) {
                    self.close_with(id, farewell.code, &farewell.reason(), Close::Disconnected.label());
                }
            }
        }
    }

    /// All sessions have been seen.
    fn finish(&mut self, job: Job) {
        let Job {
            task,
            permit,
            selection,
            ..
        } = job;
        // Whoever asked may have gone; an order was carried out all the same.
        match task {
            Task::Count { count, answer }
            | Task::Unsubscribe { count, answer, .. }
            | Task::Refresh { count, answer, .. } => {
                answer.send(count).ok();
            }
            Task::Presence(presence) => {
                presence.answer.send(presence.attendance.into_counted()).ok();
            }
            Task::List(listing) => {
                let (page, more) = listing.picked.into_sorted();
                let last = page.last().map(|(session, _)| Arc::clone(session));
                let page = page.into_iter().map(|(_, id)| id).collect();
                let task = Task::Describe(describe::Page::new(last.filter(|_| more)), listing.answer);
                self.jobs
                    .running
                    .push_back(Job::on(page, task, permit, selection));
            }
            Task::Describe(page, answer) => {
                answer.send(page.into_described()).ok();
            }
            Task::Disconnect(disconnect) => {
                let Disconnect {
                    farewell,
                    spread_seconds,
                    mut sessions,
                    answer,
                } = disconnect;
                answer.send(sessions.len()).ok();
                let task = if spread_seconds == 0 {
                    Task::Close(farewell)
                } else {
                    fastrand::shuffle(&mut sessions);
                    let now = self.wheel.now();
                    Task::Plan(Planning::new(farewell, now, spread_seconds, sessions.len()))
                };
                self.jobs
                    .running
                    .push_back(Job::on(sessions, task, permit, selection));
            }
            Task::Close(_) | Task::Plan(_) | Task::ClosePlanned => {}
        }
    }

    /// A second has passed: the closes that were planned for it begin.
    pub(super) fn tick_plans(&mut self) {
        let due = self.jobs.plans.due(self.wheel.now());
        if due.is_empty() {
            return;
        }
        let nobody = Arc::new(Selection::nobody());
        self.jobs
            .running
            .push_back(Job::on(due, Task::ClosePlanned, None, nobody));
    }

    /// The session ends: no close is planned for it any more.
    pub(super) fn forget_plan(&mut self, id: SessionId) {
        drop(self.jobs.plans.take(id));
    }

    /// Takes a session out of an explicit topic; whether it had it, or waited for it.
    fn take_out(&mut self, id: SessionId, name: &Name) -> bool {
        let Some(session) = self.session_ref(id) else {
            return false;
        };
        let key = TopicKey::topic(&session.who.reader.tenant, name);
        let waits = |rare: &super::session::Rare| rare.joining.contains(&key);
        let told = session.dialect == Dialect::CarillonV1;
        if !self.has(id, &key) && !session.rare.as_deref().is_some_and(waits) {
            return false;
        }
        self.leave_explicit(id, &key);
        if told {
            let topic = key.public_name();
            self.send_json(id, ServerFrame::Unsubscribed { topic: &topic }.to_json());
        }
        true
    }

    /// The session's rights have changed: its token counts for a short time only, and the same one is not taken again.
    fn demand_token(&mut self, id: SessionId, within: u32) -> bool {
        let at = jiff::Timestamp::now()
            .as_second()
            .saturating_add(i64::from(within));
        let Some(session) = self.session(id) else {
            return false;
        };
        let who = Arc::clone(&session.who);
        let rare = session.rare();
        // Told twice, it is still the first token that does not count.
        if rare.outdated.is_none() {
            rare.outdated = Some(Arc::clone(&who));
        }
        let sooner = who.expires_at > at;
        if sooner {
            session.who = Arc::new(who.until(at));
        }
        // Whose end is watched already, and stays, needs no other place on the wheel: repeated orders must not pile up there.
        let watched = std::mem::replace(&mut session.expiry_watched, true);
        let at = session.who.expires_at;
        if session.dialect == Dialect::CarillonV1 {
            self.send_json(id, ServerFrame::Expiring { at }.to_json());
        }
        if sooner || !watched {
            self.wheel.after(within, Due::Expired(id));
        }
        true
    }
}

/// Whether a session's generation was given after another. Generations wrap around.
fn is_newer(generation: u32, than: u32) -> bool {
    generation.wrapping_sub(than).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_wrap_around() {
        assert!(is_newer(2, 1));
        assert!(!is_newer(1, 1));
        assert!(!is_newer(1, 2));
        assert!(is_newer(0, u32::MAX));
        assert!(!is_newer(u32::MAX, 0));
    }
}
