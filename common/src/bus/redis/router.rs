//! Brings commands to the server that has their partition, and follows it where it goes.
//!
//! What Redis did not carry out (a slot that moved, a primary that is none any more, a server that still loads) is tried again
//! until it is time to give up. What may have been carried out is never sent again: only the caller knows whether that is safe.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use redis_protocol::resp3::types::BytesFrame;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{
    lane::{Fault, Lane, LaneOptions, Replies},
    link::Place,
    topology::Map,
    wire::{Commands, Refusal},
};
use crate::bus::BusError;

/// Between two tries, unless the map changes sooner.
const PAUSE: Duration = Duration::from_millis(20);

/// A server that has been away for so long is not waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// The same refusal is logged so often at the most.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// When callers may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Which of a server's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// For what changes something, with its copies.
    Publish,
    /// For what is read: long answers hold up no publish.
    Read,
}

/// One command.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) partition: usize,
    pub(super) command: Commands,
}

/// A server and its connections.
#[derive(Debug)]
struct Server {
    publish: Lane,
    read: Lane,
}

/// All servers.
#[derive(Debug)]
pub(super) struct Router {
    map: watch::Receiver<Arc<Map>>,
    servers: Mutex<HashMap<Place, Arc<Server>>>,
    options: LaneOptions,
    trouble: Arc<Notify>,
    /// After so long a command is given up.
    deadline: Duration,
    /// The refusal that was logged last.
    said: Mutex<Option<(String, Instant)>>,
    /// Ends the task that follows the map.
    _alive: oneshot::Sender<()>,
}

impl Router {
    /// Connects to the servers of the map as it changes, until the last handle is gone.
    pub(super) fn start(map: watch::Receiver<Arc<Map>>, options: LaneOptions) -> Arc<Self> {
        let (alive, ended) = oneshot::channel();
        let router = Arc::new(Self {
            map: map.clone(),
            servers: Mutex::default(),
            trouble: Arc::clone(&options.trouble),
            deadline: options.dialing.timeout,
            said: Mutex::default(),
            options,
            _alive: alive,
        });
        tokio::spawn(Self::follow(Arc::downgrade(&router), map, ended));
        router
    }

    /// Whether everything that is published now can be.
    pub(super) fn is_up(&self) -> bool {
        let map = Arc::clone(&self.map.borrow());
        map.is_whole()
            && map.places().iter().all(|place| {
                let server = self.server(place);
                server.publish.is_up() && server.read.is_up()
            })
    }

    /// Keeps connections to the servers of the map, and to no others.
    async fn follow(
        router: Weak<Self>,
        mut map: watch::Receiver<Arc<Map>>,
        mut ended: oneshot::Receiver<()>,
    ) {
        loop {
            let now = Arc::clone(&map.borrow_and_update());
            let Some(router) = router.upgrade() else { return };
            router.servers().retain(|place, _| now.places().contains(place));
            for place in now.places() {
                drop(router.server(place));
            }
            drop(router);
            tokio::select! {
                changed = map.changed() => if changed.is_err() { return },
                _ = &mut ended => return,
            }
        }
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<Place, Arc<Server>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server(&self, place: &Place) -> Arc<Server> {
        let mut servers = self.servers();
        if let Some(server) = servers.get(place) {
            return Arc::clone(server);
        }
        let lane = || Lane::start(place.clone(), self.options.clone());
        let server = Arc::new(Server {
            publish: lane(),
            read: lane(),
        });
        servers.insert(place.clone(), Arc::clone(&server));
        server
    }

    /// Carries commands out, each where its partition is; in order for those of one partition, as long as nothing moves.
    /// Answers in the order of the commands.
    pub(super) async fn run(&self, way: Way, items: Vec<Item>) -> Vec<Result<BytesFrame, BusError>> {
        let until = Instant::now() + self.deadline;
        let mut map = self.map.clone();
        let mut results: Vec<Option<Result<BytesFrame, BusError>>> = items.iter().map(|_| None).collect();
        let mut open: Vec<(usize, Option<Place>)> = (0..items.len()).map(|number| (number, None)).collect();
        loop {
            let limit = until.max(Instant::now() + self.deadline / 2);
            let outcomes = self.attempt(way, &items, &open, &mut map, limit).await;
            let late = Instant::now() >= until;
            let mut again = Vec::new();
            for ((number, _), outcome) in open.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Done(result) => results[number] = Some(result),
                    Outcome::Again { reason, .. } if late => {
                        results[number] = Some(Err(unavailable(reason)));
                    }
                    Outcome::Again { at, .. } => again.push((number, at)),
                }
            }
            if again.is_empty() {
                break;
            }
            self.options.metrics.retried.inc_by(again.len() as u64);
            // Who was told where to ask goes there at once.
            if again.iter().any(|(_, at)| at.is_none()) {
                self.trouble.notify_one();
                drop(timeout(PAUSE, map.changed()).await);
            }
            open = again;
        }
        let missing = || Err(unavailable("no answer".to_owned()));
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(missing))
            .collect()
    }

    async fn attempt(
        &self,
        way: Way,
        items: &[Item],
        open: &[(usize, Option<Place>)],
        map: &mut watch::Receiver<Arc<Map>>,
        limit: Instant,
    ) -> Vec<Outcome> {
        let now = Arc::clone(&map.borrow_and_update());
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(open.len());
        let mut groups: Vec<Group> = Vec::new();
        for (number, asking) in open {
            let item = &items[*number];
            let place = asking.as_ref().or_else(|| now.owner(item.partition));
            let at = outcomes.len();
            outcomes.push(Outcome::again("nobody has the slot".to_owned()));
            let Some(place) = place else { continue };
            let group = match groups.iter().position(|group| group.place == *place) {
                Some(group) => group,
                None => {
                    groups.push(Group {
                        place: place.clone(),
                        commands: Commands::default(),
                        answers: Vec::new(),
                    });
                    groups.len() - 1
                }
            };
            let Group {
                commands, answers, ..
            } = &mut groups[group];
            if asking.is_some() {
                commands.push(&[b"ASKING"]);
            }
            answers.push((at, commands.count()));
            commands.append(&item.command);
        }
        let calls: Vec<_> = groups
            .into_iter()
            .map(|group| {
                let server = self.server(&group.place);
                let lane = match way {
                    Way::Publish => &server.publish,
                    Way::Read => &server.read,
                };
                let down = lane.down_for();
                let call = lane.call(group.commands, way == Way::Publish);
                async move {
                    // Who gives up here is not sent any more, if it was not yet.
                    let answer = timeout_at(limit, call).await.unwrap_or(Err(Fault::Late));
                    // Until now, so that a server that leaves the map still answers what it was asked.
                    drop(server);
                    (group.answers, down, answer)
                }
            })
            .collect();
        for (places, down, answer) in join_all(calls).await {
            match answer {
                Ok(Replies { mut frames, copied }) => {
                    for (at, reply) in places {
                        let reply = frames
                            .get_mut(reply)
                            .map(|reply| std::mem::replace(reply, BytesFrame::Null));
                        outcomes[at] = self.judge(reply, copied || way == Way::Read);
                    }
                }
                Err(fault) => {
                    for (at, _) in places {
                        outcomes[at] = self.fail(fault, down);
                    }
                }
            }
        }
        outcomes
    }

    fn judge(&self, reply: Option<BytesFrame>, copied: bool) -> Outcome {
        let Some(reply) = reply else {
            return Outcome::failed("no answer");
        };
        match Refusal::in_reply(&reply) {
            None if copied => Outcome::Done(Ok(reply)),
            None => {
                self.options.metrics.not_copied.inc();
                Outcome::failed("too few replicas of Redis have it; it may be lost or stay")
            }
            Some(Refusal::Elsewhere) => Outcome::again("the primary moved".to_owned()),
            Some(Refusal::Ask(place)) => Outcome::Again {
                reason: "the slot is moving".to_owned(),
                // Without a host it is where it was asked, and the map says so sooner or later.
                at: Place::parse(&place).filter(|place| !place.host.is_empty()),
            },
            Some(Refusal::NotNow(reason)) => Outcome::again(reason),
            Some(Refusal::NoScript) => {
                tracing::warn!("Redis has forgotten the scripts; was SCRIPT FLUSH called? Connecting anew");
                self.servers().clear();
                Outcome::again("the scripts have gone".to_owned())
            }
            Some(Refusal::Refused(reason)) => {
                self.complain(&reason);
                Outcome::failed(&reason)
            }
        }
    }

    /// Logs a refusal, though not each of thousands in a second.
    fn complain(&self, reason: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let known = said
            .as_ref()
            .is_some_and(|(last, at)| last == reason && at.elapsed() < SAY_AGAIN);
        if !known {
            tracing::error!(%reason, "Redis refuses what the bus asks for");
            *said = Some((reason.to_owned(), Instant::now()));
        }
    }

    fn fail(&self, fault: Fault, down: Duration) -> Outcome {
        match fault {
            Fault::Away if down < PATIENCE => Outcome::again("Redis is away".to_owned()),
            Fault::Away => {
                self.trouble.notify_one();
                Outcome::failed("Redis is away")
            }
            Fault::Full => Outcome::failed("too many publishes wait for Redis"),
            Fault::Late => {
                self.options.metrics.unclear.inc();
                Outcome::failed("Redis did not answer in time; it may have been done")
            }
            Fault::Unclear => {
                self.options.metrics.unclear.inc();
                Outcome::failed("the connection to Redis broke before the answer; it may have been done")
            }
        }
    }
}

/// What goes to one server in one try, in order.
struct Group {
    place: Place,
    commands: Commands,
    /// Which outcome, and by which reply.
    answers: Vec<(usize, usize)>,
}

/// What became of one command in one try.
enum Outcome {
    Done(Result<BytesFrame, BusError>),
    /// Nothing was done. `at`: where to ask, if Redis said so.
    Again {
        reason: String,
        at: Option<Place>,
    },
}

impl Outcome {
    fn again(reason: String) -> Self {
        Self::Again { reason, at: None }
    }

    fn failed(reason: &str) -> Self {
        Self::Done(Err(unavailable(reason.to_owned())))
    }
}

pub(super) fn unavailable(reason: String) -> BusError {
    BusError::Unavailable {
        reason,
        retry_after: RETRY_AFTER,
    }
}

/// A reply of another shape than its command's.
pub(super) fn odd() -> BusError {
    unavailable("Redis answered what it never should".to_owned())
}
