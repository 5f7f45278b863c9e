//! One question to all nodes that may have to answer, this one included.
//!
//! Where one topic has every session that is meant, the question is published on that topic: nodes without members are not
//! subscribed to it, do not get it and need not answer. What goes over several topics, or over a bus that does not count its
//! receivers, is asked of all nodes.
//!
//! An answer is complete when every node that had to answer did, with all its workers. By a topic these are as many as the
//! bus said it gave the question to, and no node may be missing whose subscriptions may be broken: all that are known were
//! heard lately and said that their bus works. Of all nodes these are the known ones, by name.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    bus::BusError,
    ids::{NodeId, TenantId},
    target::Audience,
    topic::TopicKey,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    Nodes,
    desk::{Deed, Found, share},
    order::{Order, Question, Reply},
};
use crate::worker::control::Selection;

/// Answers that may wait to be looked at; a node gives one.
const REPLIES: usize = 1024;

/// Bytes of text of a node's answer; longer pages end earlier.
const REPLY_BYTES: usize = 128 * 1024;

/// Whom a question concerns, and in whose name it is asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) tenant: TenantId,
    /// The caller may mean sessions of all tenants.
    pub(crate) all_tenants: bool,
    pub(crate) to: Audience,
    pub(crate) session: Option<String>,
    /// Only this node.
    pub(crate) node: Option<NodeId>,
}

impl Asked {
    /// Whether sessions are meant whatever their tenant.
    pub(crate) fn is_of_all_tenants(&self) -> bool {
        self.selection().is_of_all_tenants()
    }

    fn selection(&self) -> Selection {
        Selection::new(self.to.clone(), &self.tenant, self.session.clone())
    }
}

/// What the nodes answered.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// Each node's part.
    pub(crate) found: Vec<(NodeId, Found)>,
    /// Nodes that had to answer.
    pub(crate) nodes: usize,
    /// All of them did, in whole.
    pub(crate) complete: bool,
}

/// Too much is under way on this node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Busy;

/// Something came for a question.
#[derive(Debug)]
pub(super) enum Came {
    /// A node's answer.
    Reply(NodeId, Reply),
    /// This node got its own question from the bus: it is one of those that the bus counted.
    Echo,
}

/// Questions that wait for answers. As many as there are places for operators.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: Mutex<HashMap<u64, mpsc::Sender<Came>>>,
}

impl Pending {
    pub(super) fn begin(&self) -> Waiting<'_> {
        let (sender, came) = mpsc::channel(REPLIES);
        let id = fastrand::u64(..);
        self.lock().insert(id, sender);
        Waiting {
            pending: self,
            id,
            came,
        }
    }

    /// Hands over what came for a question; nobody may wait for it any more.
    pub(super) fn came(&self, id: u64, came: Came) {
        if let Some(waiting) = self.lock().get(&id) {
            // Without room the answer is not complete.
            waiting.try_send(came).ok();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, mpsc::Sender<Came>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question that waits.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    pending: &'a Pending,
    id: u64,
    came: mpsc::Receiver<Came>,
}

impl Waiting<'_> {
    /// By which answers name it.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// What comes next.
    pub(super) async fn next(&mut self) -> Option<Came> {
        self.came.recv().await
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pending.lock().remove(&self.id);
    }
}

/// Who has to answer.
#[derive(Debug)]
enum Expected {
    /// These.
    Named(BTreeSet<NodeId>),
    /// As many as the bus gave the question to.
    Receivers(usize),
}

impl Expected {
    /// Whether everything came that will.
    fn is_met(&self, answered: &BTreeSet<NodeId>, echoed: bool) -> bool {
        match self {
            Self::Named(nodes) => nodes.is_subset(answered),
            Self::Receivers(count) => answered.len() + usize::from(echoed) >= *count,
        }
    }
}

impl Nodes {
    /// Asks, and waits for the answers until the deadline.
    ///
    /// # Errors
    /// [`Busy`]: nothing was done.
    pub(crate) async fn ask(&self, asked: Asked, deed: Deed, within: Duration) -> Result<Gathered, Busy> {
        let deadline = Instant::now() + within;
        let permit = self.desk.place().ok_or(Busy)?;
        let selection = Arc::new(asked.selection());
        let here = asked.node.as_ref().is_none_or(|node| *node == self.node);
        let elsewhere = asked.node.as_ref().is_none_or(|node| *node != self.node);
        let own = async {
            if !here {
                return None;
            }
            let selection = Arc::clone(&selection);
            let part = self
                .desk
                .carry_out(deed.clone(), &asked.tenant, selection, deadline, &permit);
            Some(part.await)
        };
        let others = async {
            if !elsewhere {
                return Gathered {
                    found: Vec::new(),
                    nodes: 0,
                    complete: true,
                };
            }
            self.ask_others(&asked, &selection, deed.clone(), within, deadline)
                .await
        };
        let (own, mut gathered) = tokio::join!(own, others);
        if let Some(part) = own {
            gathered.nodes += 1;
            gathered.complete &= part.complete;
            gathered.found.push((self.node.clone(), part.found));
        }
        Ok(gathered)
    }

    async fn ask_others(
        &self,
        asked: &Asked,
        selection: &Selection,
        deed: Deed,
        within: Duration,
        deadline: Instant,
    ) -> Gathered {
        let mut gathered = Gathered {
            found: Vec::new(),
            nodes: 0,
            complete: timeout_at(deadline, self.settled()).await.is_ok(),
        };
        let known = self.known();
        let (key, named) = match (&asked.node, selection.only_key()) {
            (Some(node), _) => (TopicKey::node(node), Some(BTreeSet::from([node.clone()]))),
            _ if known.is_empty() => return gathered,
            // What is asked of a node itself is asked of all.
            (None, Some(key)) if self.bus.counts_receivers() && !matches!(deed, Deed::Stats) => {
                (key.clone(), None)
            }
            (None, _) => (TopicKey::nodes(), Some(known)),
        };
        let mut waiting = self.pending.begin();
        let question = Order::Ask(Box::new(Question {
            id: waiting.id,
            within_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
            tenant: asked.tenant.clone(),
            all_tenants: asked.all_tenants,
            to: asked.to.clone(),
            session: asked.session.clone(),
            deed,
        }));
        let publishing = self.bus.publish(question.publication(&self.node, key));
        let (expected, published) = match timeout_at(deadline, publishing).await {
            Ok(Ok(published)) => (
                named.map_or(Expected::Receivers(published.nodes), Expected::Named),
                true,
            ),
            // It may have been sent all the same.
            Ok(Err(BusError::Unavailable { .. })) | Err(_) => {
                (named.map_or(Expected::Receivers(0), Expected::Named), false)
            }
        };
        let by_count = matches!(expected, Expected::Receivers(_));
        let (mut answered, mut echoed) = (BTreeSet::new(), false);
        while published && !expected.is_met(&answered, echoed) {
            match timeout_at(deadline, waiting.came.recv()).await {
                Ok(Some(Came::Echo)) => echoed = true,
                Ok(Some(Came::Reply(node, reply))) => {
                    gathered.complete &= reply.complete && reply.found.is_some();
                    if answered.insert(node.clone()) {
                        gathered.found.extend(reply.found.map(|found| (node, found)));
                    }
                }
                _ => break,
            }
        }
        gathered.complete &= published && expected.is_met(&answered, echoed);
        if by_count {
            gathered.complete &= self.all_well();
        }
        gathered.nodes = match expected {
            Expected::Named(nodes) => nodes.len(),
            Expected::Receivers(count) => answered.len().max(count.saturating_sub(usize::from(echoed))),
        };
        gathered
    }

    /// Does what another node asks, and answers it.
    pub(super) async fn answer(&self, asker: NodeId, question: Question) {
        let within = Duration::from_millis(u64::from(question.within_ms));
        let deadline = Instant::now() + share(within);
        let asked = Asked {
            tenant: question.tenant,
            all_tenants: question.all_tenants,
            to: question.to,
            session: question.session,
            node: None,
        };
        let selection = asked.selection();
        let mut reply = Reply {
            id: question.id,
            found: None,
            complete: false,
        };
        if selection.is_of_all_tenants() && !asked.all_tenants {
            tracing::warn!(%asker, "a node asks for sessions of all tenants without the right to");
        } else if let Some(permit) = self.desk.place() {
            let part = self
                .desk
                .carry_out(
                    question.deed,
                    &asked.tenant,
                    Arc::new(selection),
                    deadline,
                    &permit,
                )
                .await;
            reply.complete = part.complete;
            reply.found = Some(bounded(part.found));
        }
        let reply = Order::Reply(Box::new(reply));
        let publishing = self
            .bus
            .publish(reply.publication(&self.node, TopicKey::node(&asker)));
        match timeout_at(deadline + within, publishing).await {
            Ok(Ok(_)) => {}
            // The asker says that its answer is not complete.
            Ok(Err(error)) => tracing::debug!(%error, %asker, "an answer is not on the bus"),
            Err(_) => tracing::debug!(%asker, "an answer is not on the bus in time"),
        }
    }
}

/// Pages end earlier where they are large: an answer is one message of the bus.
fn bounded(mut found: Found) -> Found {
    match &mut found {
        Found::Page(page) => page.cut(usize::MAX, REPLY_BYTES),
        Found::Users(users) => users.cut(usize::MAX, REPLY_BYTES),
        Found::Sessions(_) | Found::Stats(_) => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_came_when_all_who_had_to_answered() {
        let node = |id: &str| NodeId::new(id).unwrap();
        let answered = |ids: &[&str]| ids.iter().map(|id| node(id)).collect::<BTreeSet<_>>();
        let named = Expected::Named(answered(&["a", "b"]));
        assert!(!named.is_met(&answered(&["a", "c"]), true));
        assert!(named.is_met(&answered(&["a", "b", "c"]), false));
        let counted = Expected::Receivers(2);
        assert!(!counted.is_met(&answered(&["a"]), false));
        assert!(
            counted.is_met(&answered(&["a"]), true),
            "this node is one of them"
        );
        assert!(Expected::Receivers(0).is_met(&answered(&[]), false));
    }

    #[test]
    fn answers_that_nobody_waits_for_are_dropped() {
        let pending = Pending::default();
        let mut waiting = pending.begin();
        pending.came(waiting.id.wrapping_add(1), Came::Echo);
        assert!(waiting.came.try_recv().is_err());
        pending.came(waiting.id, Came::Echo);
        assert!(matches!(waiting.came.try_recv(), Ok(Came::Echo)));
        drop(waiting);
        assert!(pending.lock().is_empty());
    }
}
