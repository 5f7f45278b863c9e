//! The table of who is there, in Redis: for each topic a count of nodes by user, and for each node of the topic the set of
//! its users, all in the topic's slot.

use std::time::Duration;

use redis_protocol::resp3::types::BytesFrame;

use super::{
    RedisBus, odd,
    router::{Item, Way},
    scripts::{self, Script, call},
    wire::{Commands, list, number, text},
};
use crate::{
    bus::{
        BusError,
        attendance::{Entered, MAX_USERS, Purged},
    },
    ids::{Name, NodeId},
    topic::TopicKey,
};

/// What nobody says again is forgotten after so long. Nodes say it again sooner.
const AGE: Duration = Duration::from_secs(900);

impl RedisBus {
    pub(in crate::bus) async fn enter(
        &self,
        topic: &TopicKey,
        node: &NodeId,
        users: &[Name],
    ) -> Result<Entered, BusError> {
        let age = AGE.as_millis().to_string();
        let mut arguments = vec![node.as_str(), &age];
        arguments.extend(users.iter().map(Name::as_str));
        let reply = self.attend(&scripts::ENTER, topic, node, &arguments).await?;
        let [joined, nodes] = list(&reply).ok_or_else(odd)? else {
            return Err(odd());
        };
        let nodes = list(nodes).ok_or_else(odd)?.iter();
        Ok(Entered {
            joined: names(joined)?,
            // What is no id of a node is none of ours.
            nodes: nodes.filter_map(|id| NodeId::new(text(id)?).ok()).collect(),
        })
    }

    pub(in crate::bus) async fn exit(
        &self,
        topic: &TopicKey,
        node: &NodeId,
        users: &[Name],
    ) -> Result<Vec<Name>, BusError> {
        let mut arguments = vec![node.as_str()];
        arguments.extend(users.iter().map(Name::as_str));
        names(&self.attend(&scripts::EXIT, topic, node, &arguments).await?)
    }

    pub(in crate::bus) async fn purge(&self, topic: &TopicKey, node: &NodeId) -> Result<Purged, BusError> {
        let most = MAX_USERS.to_string();
        let reply = self
            .attend(&scripts::PURGE, topic, node, &[node.as_str(), &most])
            .await?;
        let [more, left] = list(&reply).ok_or_else(odd)? else {
            return Err(odd());
        };
        Ok(Purged {
            left: names(left)?,
            more: number(more) == Some(1),
        })
    }

    async fn attend(
        &self,
        script: &'static Script,
        topic: &TopicKey,
        node: &NodeId,
        arguments: &[&str],
    ) -> Result<BytesFrame, BusError> {
        let names = &self.inner.names;
        let partition = names.partition(topic);
        let users = names.attending(partition, topic);
        let nodes = names.attended_by(partition, topic);
        let its = names.attending_at(partition, topic, node.as_str());
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        let mut command = Commands::default();
        call(&mut command, script, &[&users, &nodes, &its], &arguments);
        let item = Item { partition, command };
        let mut replies = self.inner.router.run(Way::Publish, vec![item]).await;
        replies.pop().ok_or_else(odd)?
    }
}

fn names(reply: &BytesFrame) -> Result<Vec<Name>, BusError> {
    let names = list(reply).ok_or_else(odd)?.iter();
    names
        .map(|name| Name::new(text(name).ok_or_else(odd)?).map_err(|_| odd()))
        .collect()
}
