//! Which users of a topic are there, by the nodes that have them: so that one who comes or goes is told once, and not by
//! each node.
//!
//! What every form promises (`conformance` holds the cases):
//! - a user has joined with the first node that has sessions of it, and has left with the last one, whatever nodes say in
//!   between and however often they say it;
//! - of several who take a dead node's users out of a topic, each is told of a user that thereby left exactly once.
//!
//! It knows nothing of time: a node that keeps a user for a grace says later that the user has gone.

#[cfg(feature = "test-util")]
pub mod conformance;
mod memory;

pub(super) use self::memory::MemoryAttendance;
use super::{BusError, RedisBus};
use crate::{
    ids::{Name, NodeId},
    topic::TopicKey,
};

/// Users that one call concerns at the most; who has more calls again.
pub const MAX_USERS: usize = 256;

/// What came of saying that users are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entered {
    /// Users who were not there before, on any node.
    pub joined: Vec<Name>,
    /// All nodes that have users of the topic; one of them may have died without a word.
    pub nodes: Vec<NodeId>,
}

/// What came of taking users of a dead node out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// Users who are nowhere any more.
    pub left: Vec<Name>,
    /// The node has more users in the topic.
    pub more: bool,
}

/// The table in one of its forms.
#[derive(Debug, Clone)]
pub enum Attendance {
    /// Inside one process.
    Memory(MemoryAttendance),
    /// Over Redis.
    Redis(RedisBus),
}

impl Attendance {
    /// Users are on a node. Said again, it counts once.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: it may count all the same; safe to say again.
    pub async fn enter(&self, topic: &TopicKey, node: &NodeId, users: &[Name]) -> Result<Entered, BusError> {
        match self {
            Self::Memory(table) => Ok(table.enter(topic, node, users)),
            Self::Redis(bus) => bus.enter(topic, node, users).await,
        }
    }

    /// Users are on a node no more; those who are nowhere now. Said again, it counts once.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: it may count all the same; safe to say again.
    pub async fn exit(&self, topic: &TopicKey, node: &NodeId, users: &[Name]) -> Result<Vec<Name>, BusError> {
        match self {
            Self::Memory(table) => Ok(table.exit(topic, node, users)),
            Self::Redis(bus) => bus.exit(topic, node, users).await,
        }
    }

    /// Takes out at most [`MAX_USERS`] users of a node that has gone.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: some may be out all the same, and nobody is told of them.
    pub async fn purge(&self, topic: &TopicKey, node: &NodeId) -> Result<Purged, BusError> {
        match self {
            Self::Memory(table) => Ok(table.purge(topic, node)),
            Self::Redis(bus) => bus.purge(topic, node).await,
        }
    }
}
