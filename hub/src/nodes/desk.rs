//! What is asked of this node's sessions, or done to them: every worker has its part.

use std::{sync::Arc, time::Duration};

use common::{
    ids::{Name, TenantId},
    topic::TopicKey,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::announcement::{Figures, Own};
use crate::worker::{
    Control,
    control::{Counted, Described, Farewell, Job, Page, Permit, Selection, Task},
};

/// Questions and orders of operators that are under way on a node at once, its own and those of others.
const OPERATORS: usize = 16;

/// What is done with the sessions that are meant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Deed {
    /// They are counted.
    Count,
    /// A page of them is described.
    List(Page<Box<str>>),
    /// Their users are counted.
    Presence(Page<TopicKey>),
    /// They are closed, spread over so many seconds.
    Disconnect {
        /// What they are told.
        farewell: Farewell,
        /// Over so many seconds.
        spread_seconds: u32,
    },
    /// They leave a topic.
    Unsubscribe {
        /// By its bare name.
        topic: Name,
    },
    /// They have to bring a newer token within so many seconds.
    Refresh {
        /// Seconds.
        within_seconds: u32,
    },
    /// Nothing; the node says how many there are.
    Stats,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Found {
    /// So many sessions were found or told.
    Sessions(usize),
    /// A page of sessions.
    Page(Described),
    /// A page of users.
    Users(Counted),
    /// How many there are.
    Stats(NodeStats),
}

/// A tenant on one node, and the node's load.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct NodeStats {
    /// Open sessions of the tenant.
    pub(crate) connections: usize,
    /// Users of the tenant with at least one session.
    pub(crate) users: usize,
    /// The node.
    pub(crate) figures: Figures,
}

/// A node's part.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) found: Found,
    /// All workers answered in time.
    pub(crate) complete: bool,
}

/// Takes what operators ask of this node.
#[derive(Debug)]
pub(crate) struct Desk {
    workers: Vec<mpsc::Sender<Control>>,
    operators: Arc<Semaphore>,
    own: Own,
}

impl Desk {
    pub(crate) fn new(workers: Vec<mpsc::Sender<Control>>, own: Own) -> Self {
        Self {
            workers,
            operators: Arc::new(Semaphore::new(OPERATORS)),
            own,
        }
    }

    pub(crate) fn own(&self) -> &Own {
        &self.own
    }

    /// A place among the calls that are under way, until its last copy is dropped. None where there are too many.
    pub(crate) fn place(&self) -> Option<Permit> {
        place(&self.operators)
    }

    /// Does it, and waits for the workers until the deadline. Orders are carried out to their end all the same.
    pub(crate) async fn carry_out(
        &self,
        deed: Deed,
        tenant: &TenantId,
        selection: Arc<Selection>,
        deadline: Instant,
        permit: &Permit,
    ) -> Part {
        let asking = Asking {
            workers: &self.workers,
            selection,
            deadline,
            permit,
        };
        match deed {
            Deed::Count => asking.count(Task::count).await,
            Deed::Unsubscribe { topic } => {
                asking
                    .count(|answer| Task::unsubscribe(topic.clone(), answer))
                    .await
            }
            Deed::Refresh { within_seconds } => {
                asking.count(|answer| Task::refresh(within_seconds, answer)).await
            }
            Deed::Disconnect {
                farewell,
                spread_seconds,
            } => {
                let farewell = Arc::new(farewell);
                asking
                    .count(|answer| Task::disconnect(Arc::clone(&farewell), spread_seconds, answer))
                    .await
            }
            Deed::List(page) => {
                let (given, complete) = asking.ask(|answer| Task::list(page.clone(), answer)).await;
                Part {
                    found: Found::Page(Described::merged(given, page.limit)),
                    complete,
                }
            }
            Deed::Presence(page) => {
                let (given, complete) = asking.ask(|answer| Task::presence(page.clone(), answer)).await;
                Part {
                    found: Found::Users(Counted::merged(given, page.limit)),
                    complete,
                }
            }
            Deed::Stats => {
                let count = self.own.tenant(tenant);
                Part {
                    found: Found::Stats(NodeStats {
                        connections: count.connections,
                        users: count.users,
                        figures: self.own.figures(),
                    }),
                    complete: true,
                }
            }
        }
    }
}

fn place(operators: &Arc<Semaphore>) -> Option<Permit> {
    Arc::clone(operators).try_acquire_owned().ok().map(Arc::new)
}

/// One question, for all workers.
struct Asking<'a> {
    workers: &'a [mpsc::Sender<Control>],
    selection: Arc<Selection>,
    deadline: Instant,
    permit: &'a Permit,
}

impl Asking<'_> {
    async fn count(self, task: impl Fn(oneshot::Sender<usize>) -> Task) -> Part {
        let (given, complete) = self.ask(task).await;
        Part {
            found: Found::Sessions(given.into_iter().sum()),
            complete,
        }
    }

    /// What was answered in time, and whether that is all.
    async fn ask<A>(self, task: impl Fn(oneshot::Sender<A>) -> Task) -> (Vec<A>, bool) {
        let mut waiting = Vec::with_capacity(self.workers.len());
        let mut complete = true;
        for worker in self.workers {
            let (answer, answered) = oneshot::channel();
            let job = Job::new(Arc::clone(&self.selection), task(answer), Arc::clone(self.permit));
            let job = Control::Operator(Box::new(job));
            match timeout_at(self.deadline, worker.send(job)).await {
                Ok(Ok(())) => waiting.push(answered),
                _ => complete = false,
            }
        }
        let mut given = Vec::with_capacity(waiting.len());
        for answered in waiting {
            match timeout_at(self.deadline, answered).await {
                Ok(Ok(answer)) => given.push(answer),
                _ => complete = false,
            }
        }
        (given, complete)
    }
}

/// How long an asked node may take, so that its answer is there in time: a part is better than nothing.
pub(super) fn share(within: Duration) -> Duration {
    within * 4 / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_under_way_are_bounded() {
        let operators = Arc::new(Semaphore::new(2));
        let (first, _second) = (place(&operators).unwrap(), place(&operators).unwrap());
        assert!(place(&operators).is_none());
        // Every worker has its share of a place.
        let part = Arc::clone(&first);
        drop(first);
        assert!(place(&operators).is_none());
        drop(part);
        assert!(place(&operators).is_some());
    }
}
