//! `join` and `leave` of a user, once over all nodes.
//!
//! Workers say who is there on this node, and who is not any more when the grace has passed. This task keeps that in the
//! table of the bus, and tells the topic what the table says: that a user joined, or left everywhere. A user who moves to
//! another node within the grace is never away.
//!
//! The users of a node that ends or dies stay in the table until their grace has passed; then those who have the topic take
//! them out, each user once. Nobody who has the topic means nobody to tell; what then stays in the table is taken out by the
//! next one that has it, which sees a node in the table that is not there.

mod book;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{
    bus::{
        BusError, Publication,
        attendance::{Attendance, MAX_USERS},
    },
    ids::{MessageId, Name, NodeId},
    message::{FrameKind, Header},
    target::Except,
    topic::TopicKey,
};
use futures_util::future::join_all;
use tokio::sync::mpsc;

use self::book::{Book, Saying};
use super::Nodes;
use crate::worker::presence::Attended;

/// Users whose coming and going is settled in one round.
const BATCH: usize = 256;

/// All that this node has is said again so often: the table forgets what nobody says for three times as long, and one that
/// lost its memory is whole again.
const REFRESH: Duration = Duration::from_secs(300);

/// How long it is remembered that a node has gone.
const DEPARTED: Duration = Duration::from_secs(3600);

/// What the registry says to this task.
#[derive(Debug)]
pub(super) enum Notice {
    /// A node has gone; its users may come back elsewhere until then.
    Gone(NodeId, Instant),
    /// A node is there.
    Here(NodeId),
    /// Others took this node for gone, and have taken its users out.
    Missed,
}

/// The task.
#[derive(Debug)]
pub(super) struct Attending {
    nodes: Arc<Nodes>,
    table: Attendance,
    book: Book,
    /// Nodes that have gone, and when their users have to be taken out.
    departed: HashMap<NodeId, Departed>,
    refresh: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Departed {
    due: Instant,
    done: bool,
}

impl Attending {
    pub(super) fn new(nodes: Arc<Nodes>) -> Self {
        Self {
            table: nodes.bus.attendance(),
            nodes,
            book: Book::default(),
            departed: HashMap::new(),
            refresh: Instant::now() + REFRESH,
        }
    }

    /// Runs until the node ends.
    pub(super) async fn run(
        mut self,
        mut attended: mpsc::Receiver<Attended>,
        mut notices: mpsc::Receiver<Notice>,
    ) {
        let ended = self.nodes.ended.clone();
        let mut batch = Vec::with_capacity(BATCH);
        let mut tick = tokio::time::interval(self.nodes.every / 3);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                taken = attended.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|attended| self.book.note(attended));
                    // What a table that is away cannot take waits for the tick.
                    self.settle().await;
                }
                notice = notices.recv() => match notice {
                    Some(notice) => self.notice(notice),
                    None => return,
                },
                _ = tick.tick() => {
                    let now = Instant::now();
                    if now >= self.refresh {
                        self.refresh = now + REFRESH;
                        self.book.doubt_all();
                    }
                    self.settle().await;
                    self.purge_departed(now).await;
                }
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Gone(node, due) => {
                self.departed.insert(node, Departed { due, done: false });
            }
            Notice::Here(node) => {
                self.departed.remove(&node);
            }
            Notice::Missed => self.book.doubt_all(),
        }
    }

    /// Says to the table what has changed, and to the topics what came of it.
    async fn settle(&mut self) {
        while !self.book.is_settled() {
            let mut away = false;
            for saying in self.book.take_unsettled(BATCH) {
                away |= self.say(&saying).await.is_err();
            }
            if away {
                return;
            }
        }
    }

    async fn say(&mut self, saying: &Saying) -> Result<(), BusError> {
        let Saying { topic, exits, enters } = saying;
        let node = self.nodes.node.clone();
        let mut outcome = Ok(());
        for users in exits.chunks(MAX_USERS) {
            match self.table.exit(topic, &node, users).await {
                Ok(left) => {
                    self.book.exited(topic, users);
                    self.tell("leave", topic, left).await;
                }
                Err(error) => {
                    self.book.put_back(topic, users);
                    outcome = Err(error);
                }
            }
        }
        for users in enters.chunks(MAX_USERS) {
            match self.table.enter(topic, &node, users).await {
                Ok(entered) => {
                    self.book.entered(topic, users);
                    self.tell("join", topic, entered.joined).await;
                    self.meet(topic, entered.nodes).await;
                }
                Err(error) => {
                    self.book.put_back(topic, users);
                    outcome = Err(error);
                }
            }
        }
        if let Err(error) = &outcome {
            tracing::debug!(%error, "the table of users is not available; it is told later");
        }
        outcome
    }

    /// These nodes have users of a topic that this one has, too.
    async fn meet(&mut self, topic: &TopicKey, nodes: Vec<NodeId>) {
        for node in nodes {
            if self.nodes.is_known(&node) {
                continue;
            }
            match self.departed.get(&node) {
                // It went before this node had the topic.
                Some(departed) if departed.done => drop(self.purge(topic, &node).await),
                Some(_) => {}
                None => self.nodes.suspect(&node),
            }
        }
    }

    async fn purge_departed(&mut self, now: Instant) {
        self.departed
            .retain(|_, departed| now.saturating_duration_since(departed.due) < DEPARTED);
        let is_due = |departed: &Departed| !departed.done && departed.due <= now;
        let due = self.departed.iter().filter(|(_, departed)| is_due(departed));
        let due: Vec<NodeId> = due.map(|(node, _)| node.clone()).collect();
        for node in due {
            let topics = self.book.topics();
            let mut done = true;
            for topic in &topics {
                done &= self.purge(topic, &node).await.is_ok();
            }
            if let Some(departed) = self.departed.get_mut(&node) {
                departed.done = done;
            }
        }
    }

    async fn purge(&self, topic: &TopicKey, node: &NodeId) -> Result<(), BusError> {
        loop {
            let purged = self.table.purge(topic, node).await?;
            self.tell("leave", topic, purged.left).await;
            if !purged.more {
                return Ok(());
            }
        }
    }

    /// Tells the topic. Of different users in any order; a user comes once.
    async fn tell(&self, event: &str, topic: &TopicKey, users: Vec<Name>) {
        let publishing = users
            .iter()
            .map(|user| self.nodes.bus.publish(publication(event, topic, user)));
        for outcome in join_all(publishing).await {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a presence event is not on the bus");
                self.nodes.metrics.presence_dropped.inc();
            }
        }
    }
}

fn publication(event: &str, topic: &TopicKey, user: &Name) -> Publication {
    let mut header = Header::new(MessageId::generate(), FrameKind::Presence);
    // The others are told; the user knows.
    header.except = Except {
        user: Some(user.clone()),
        ..Except::default()
    };
    Publication {
        key: topic.clone(),
        header,
        payload: payload(event, user),
        history: false,
        idempotency_key: None,
    }
}

fn payload(event: &str, user: &Name) -> Bytes {
    serde_json::json!({"type": event, "user": user.as_str()})
        .to_string()
        .into()
}
