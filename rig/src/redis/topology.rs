//! What a node of a cluster says of the others: the answer to CLUSTER NODES.

use std::ops::RangeInclusive;

/// One node's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) nodes: Vec<Seen>,
}

/// One node as another, or itself, sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) flags: Vec<String>,
    /// The id of the one that it replicates.
    pub(super) primary: Option<String>,
    pub(super) epoch: u64,
    pub(super) linked: bool,
    /// Without those on their way.
    pub(super) slots: Vec<RangeInclusive<u16>>,
}

impl View {
    /// `None` for what is no such answer.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.lines()
            .map(Seen::parse)
            .collect::<Option<_>>()
            .map(|nodes| Self { nodes })
    }

    pub(super) fn of(&self, id: &str) -> Option<&Seen> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The one that answered.
    pub(super) fn own(&self) -> Option<&Seen> {
        self.nodes.iter().find(|node| node.is("myself"))
    }

    /// Who has which slots, comparable with another node's view.
    pub(super) fn owners(&self) -> Vec<(&str, &[RangeInclusive<u16>])> {
        let owners = self.nodes.iter().filter(|node| !node.slots.is_empty());
        let mut owners: Vec<_> = owners
            .map(|node| (node.id.as_str(), node.slots.as_slice()))
            .collect();
        owners.sort_unstable_by_key(|(id, _)| *id);
        owners
    }
}

impl Seen {
    /// `<id> <ip:port@cport,host> <flags> <primary> <ping-sent> <pong-recv> <config-epoch> <link-state> <slot>…`
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (id, _address, flags, primary) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let (_ping, _pong, epoch, link) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let slots = words.filter(|word| !word.starts_with('[')).map(|word| {
            let (from, to) = word.split_once('-').unwrap_or((word, word));
            Some(from.parse().ok()?..=to.parse().ok()?)
        });
        Some(Self {
            id: id.to_owned(),
            flags: flags.split(',').map(str::to_owned).collect(),
            primary: (primary != "-").then(|| primary.to_owned()),
            epoch: epoch.parse().ok()?,
            linked: link == "connected",
            slots: slots.collect::<Option<_>>()?,
        })
    }

    pub(super) fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }

    /// Neither failed nor on the way in or out.
    pub(super) fn is_sound(&self) -> bool {
        self.linked
            && !["fail", "fail?", "handshake", "noaddr"]
                .iter()
                .any(|flag| self.is(flag))
    }

    pub(super) fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "\
aa 127.0.0.1:30004@31004,,shard-id=69bc slave cc 0 1426238317239 4 connected
bb 127.0.0.1:30002@31002 master,fail? - 0 1426238316232 2 disconnected 5461-10922
cc 127.0.0.1:30001@31001 myself,master - 0 0 7 connected 0-5459 5460 [93->-bb] [77-<-bb]
";

    #[test]
    fn a_view_is_read() {
        let view = View::parse(ANSWER).unwrap();
        let [replica, failed, own] = &view.nodes[..] else {
            panic!("{view:?}")
        };
        assert_eq!(replica.primary.as_deref(), Some("cc"));
        assert!(replica.is_sound() && own.is_sound() && !failed.is_sound());
        assert_eq!(own, view.own().unwrap());
        assert_eq!((own.epoch, &own.slots[..]), (7, &[0..=5459, 5460..=5460][..]));
        assert!(own.has(5460) && !own.has(5461) && view.of("bb").unwrap().has(5461));
        assert_eq!(
            view.owners().iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            ["bb", "cc"]
        );
    }

    #[test]
    fn another_answer_is_none() {
        assert_eq!(
            View::parse("ERR This instance has cluster support disabled"),
            None
        );
    }
}
