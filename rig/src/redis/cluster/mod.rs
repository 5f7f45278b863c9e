//! A Redis Cluster of small processes.

mod migrate;
mod start;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{
    options::Options,
    server::{Restart, Server},
    slots::SLOTS,
    topology::View,
};
use crate::{
    Error,
    folder::Folder,
    link::Link,
    port::Port,
    wait::{self, ensure},
};

/// Longest wait for what a command of ours brings about.
const PROMPT: Duration = Duration::from_secs(20);

/// What a cluster is started with.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// How many nodes share the slots.
    pub primaries: usize,
    /// Replicas of each. With any, a primary takes writes only while one is in sync (`min-replicas-to-write 1`).
    pub replicas: usize,
    /// After how much silence a node counts as failed. A fail-over takes about twice this.
    pub node_timeout: Duration,
    /// Whether clients, replicas included, reach every node through a [`Link`] that can be cut. The nodes speak to each other
    /// without.
    pub linked: bool,
    /// Of every node.
    pub node: Options,
}

/// A running cluster: nodes `0..primaries` begin as primaries, those behind them as replicas, `replicas` of the first
/// primary first. All its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// Of the cluster bus, held for the nodes.
    buses: Vec<Port>,
    /// Behind the nodes, so that nobody writes into it while it is deleted.
    _folder: Folder,
}

#[derive(Debug)]
struct Node {
    server: Server,
    link: Option<Link>,
    id: String,
    /// A slot that it had when it was last killed or paused.
    had: Mutex<Option<u16>>,
}

impl Default for ClusterOptions {
    /// Three primaries with two replicas each, and a second until a node counts as failed.
    fn default() -> Self {
        Self {
            primaries: 3,
            replicas: 2,
            node_timeout: Duration::from_secs(1),
            linked: false,
            node: Options::default(),
        }
    }
}

impl ClusterOptions {
    /// Three primaries without replicas: quick to start, and nobody takes over.
    #[must_use]
    pub fn bare() -> Self {
        Self {
            replicas: 0,
            ..Self::default()
        }
    }
}

impl Cluster {
    /// Starts all and waits until every node can be written to and every replica is in sync: two to three seconds.
    ///
    /// # Errors
    /// [`Error::Ended`] where a node refuses its options, and what the system says.
    pub fn start(options: &ClusterOptions) -> Result<Self, Error> {
        start::start(options)
    }

    /// How many nodes there are, dead ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a cluster has a primary.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node's server, for commands and its log. Kill and pause through the cluster, which remembers what it had.
    ///
    /// # Panics
    /// Where there is no such node, as all that take a number.
    #[must_use]
    pub fn node(&self, node: usize) -> &Server {
        &self.nodes[node].server
    }

    /// All nodes' addresses for clients, `redis://127.0.0.1:7000`.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let url = |node: &Node| match &node.link {
            Some(link) => node.server.url_through(link.address()),
            None => node.server.url(),
        };
        self.nodes.iter().map(url).collect()
    }

    /// The way of all clients to a node, in a cluster that is `linked`.
    #[must_use]
    pub fn link(&self, node: usize) -> Option<&Link> {
        self.nodes[node].link.as_ref()
    }

    /// The primary of a slot, by the newest claim among the nodes that are awake.
    ///
    /// # Errors
    /// [`Error::Unfit`] where nobody has it.
    pub fn owner_of(&self, slot: u16) -> Result<usize, Error> {
        let claims = self.awake().filter_map(|(number, node)| {
            // Who does not answer claims nothing.
            let view = node.view().ok()?;
            let own = view.own()?;
            (own.is("master") && own.has(slot)).then_some((own.epoch, number))
        });
        let newest = claims.max().map(|(_, number)| number);
        newest.ok_or_else(|| Error::Unfit(format!("nobody has slot {slot}")))
    }

    /// The nodes that are awake and have slots, by their own word.
    ///
    /// # Errors
    /// Where one does not answer.
    pub fn primaries(&self) -> Result<Vec<usize>, Error> {
        self.those(|own| own.is("master") && !own.slots.is_empty())
    }

    /// The nodes that are awake and replicate this one, by their own word.
    ///
    /// # Errors
    /// Where one does not answer.
    pub fn replicas_of(&self, primary: usize) -> Result<Vec<usize>, Error> {
        let id = self.nodes[primary].id.as_str();
        self.those(|own| own.primary.as_deref() == Some(id))
    }

    /// kill -9.
    ///
    /// # Errors
    /// [`Error::System`], [`Error::Late`].
    pub fn kill(&self, node: usize) -> Result<(), Error> {
        self.nodes[node].remember();
        self.node(node).kill()
    }

    /// SIGSTOP: connections stay open, and nobody answers.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn pause(&self, node: usize) -> Result<(), Error> {
        self.nodes[node].remember();
        self.node(node).pause()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn resume(&self, node: usize) -> Result<(), Error> {
        self.node(node).resume()
    }

    /// Starts a killed node again, without data: it becomes a replica of who took over, and copies from it. A primary
    /// that nobody took over from comes back empty with its slots.
    ///
    /// # Errors
    /// As [`Server::restart`].
    pub fn restart(&self, node: usize) -> Result<(), Error> {
        self.node(node).restart(Restart::Empty)
    }

    /// Waits until another has the slots of a primary that was killed or paused, and all nodes that are awake know it.
    /// Gives the new primary. Whether it can be written to is [`Self::settle`]'s to say, where it needs a replica.
    ///
    /// # Errors
    /// [`Error::Late`]; [`Error::Unfit`] for a node that had no slots.
    pub fn wait_for_failover(&self, old: usize, within: Duration) -> Result<usize, Error> {
        let Some(slot) = *self.nodes[old].had.lock().unwrap_or_else(PoisonError::into_inner) else {
            return Err(Error::Unfit(format!(
                "node {old} had no slots when it was last stopped"
            )));
        };
        wait::until(&format!("another takes over from node {old}"), within, || {
            let new = self.owner_of(slot)?;
            ensure(new != old, || "it still has its slots".to_owned())?;
            let id = &self.nodes[new].id;
            for (number, node) in self.awake() {
                let knows = node.view()?.of(id).is_some_and(|seen| seen.has(slot));
                ensure(knows, || format!("node {number} does not know yet"))?;
                node.can_serve()?;
            }
            Ok(new)
        })
    }

    /// A fail-over without loss, as an operator orders it (CLUSTER FAILOVER): the replica takes its primary's place.
    ///
    /// # Errors
    /// [`Error::Redis`] where it is no replica, [`Error::Late`].
    pub fn failover(&self, replica: usize) -> Result<(), Error> {
        self.node(replica).command(&["CLUSTER", "FAILOVER"])?;
        wait::until(&format!("node {replica} becomes a primary"), PROMPT, || {
            let primaries = self.primaries()?;
            ensure(primaries.contains(&replica), || format!("{primaries:?} are"))
        })
    }

    /// Waits until all nodes that are awake agree on who has which slots, each slot has one of them, and each replica
    /// among them is in sync.
    ///
    /// # Errors
    /// [`Error::Late`] with what is missing.
    pub fn settle(&self, within: Duration) -> Result<(), Error> {
        wait::until("the cluster settles", within, || self.is_settled())
    }

    fn is_settled(&self) -> Result<(), Error> {
        let mut first: Option<View> = None;
        for (number, node) in self.awake() {
            node.can_serve()?;
            let view = node.view()?;
            for (other, seen) in self.awake() {
                let sound = view.of(&seen.id).is_some_and(super::topology::Seen::is_sound);
                ensure(sound, || format!("node {number} does not reach node {other}"))?;
            }
            if let Some(first) = &first {
                ensure(first.owners() == view.owners(), || {
                    format!("node {number} sees other owners")
                })?;
            }
            let own = view
                .own()
                .ok_or_else(|| Error::Unfit("a node without itself".to_owned()))?;
            node.is_in_sync(own.primary.is_some(), self.replicas_of(number)?.len())?;
            first.get_or_insert(view);
        }
        let first = first.ok_or_else(|| Error::Unfit("no node is awake".to_owned()))?;
        let owned: usize = first
            .owners()
            .iter()
            .filter(|(id, _)| self.awake().any(|(_, node)| node.id == *id))
            .flat_map(|(_, slots)| slots.iter().map(ExactSizeIterator::len))
            .sum();
        ensure(owned == usize::from(SLOTS), || {
            format!("only {owned} slots have an owner that is awake")
        })
    }

    fn those(&self, fits: impl Fn(&super::topology::Seen) -> bool) -> Result<Vec<usize>, Error> {
        let mut found = Vec::new();
        for (number, node) in self.awake() {
            if node.view()?.own().is_some_and(&fits) {
                found.push(number);
            }
        }
        Ok(found)
    }

    fn awake(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.server.is_awake())
    }
}

impl Node {
    fn view(&self) -> Result<View, Error> {
        let answer = self.server.look(&["CLUSTER", "NODES"])?;
        View::parse(answer.as_str()).ok_or_else(|| Error::Unfit(format!("no CLUSTER NODES: {answer:?}")))
    }

    /// It reaches a majority, and slots have owners.
    fn can_serve(&self) -> Result<(), Error> {
        let answer = self.server.look(&["CLUSTER", "INFO"])?;
        let state = answer.field("cluster_state").unwrap_or("unknown");
        ensure(state == "ok", || {
            format!("{} is in state {state}", self.server.address())
        })
    }

    fn is_in_sync(&self, replicates: bool, replicas: usize) -> Result<(), Error> {
        let answer = self.server.look(&["INFO", "replication"])?;
        let at = self.server.address();
        if replicates {
            let link = answer.field("master_link_status").unwrap_or("unknown");
            return ensure(link == "up", || {
                format!("the link of {at} to its primary is {link}")
            });
        }
        let online = answer.as_str().matches("state=online").count();
        ensure(online >= replicas, || {
            format!("{at} has {online} of {replicas} replicas in sync")
        })
    }

    fn remember(&self) {
        let slot = self.view().ok().and_then(|view| {
            let slots = &view.own()?.slots;
            slots.first().map(|range| *range.start())
        });
        // Who is down already keeps what it had before.
        if self.server.is_awake() {
            *self.had.lock().unwrap_or_else(PoisonError::into_inner) = slot;
        }
    }
}
