//! How things of the bus are called in Redis: `{prefix}:{{tag}}:{kind}:{topic}`.
//!
//! A topic belongs to a partition, and the partition's tag puts all that belongs to the topic into one slot. The tags are
//! chosen so that partition `p` of `n` lies in the `p`th of `n` equal parts of the 16,384 slots, whatever the cluster's
//! size: by chance alone half of a small cluster may idle.

use crate::topic::TopicKey;

/// Slots of Redis Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The names that one configuration makes.
#[derive(Debug)]
pub(super) struct Names {
    /// By partition: `{prefix}:{{tag}}:`.
    heads: Vec<String>,
}

impl Names {
    /// `partitions` is a power of two of at most 4,096.
    pub(super) fn new(prefix: &str, partitions: u16) -> Self {
        let tags = tags(partitions.max(1));
        let heads = tags.iter().map(|tag| format!("{prefix}:{{{tag}}}:")).collect();
        Self { heads }
    }

    pub(super) fn partitions(&self) -> usize {
        self.heads.len()
    }

    pub(super) fn partition(&self, key: &TopicKey) -> usize {
        self.partition_of(key.as_str())
    }

    /// The partition of a topic's key, as text.
    pub(super) fn partition_of(&self, topic: &str) -> usize {
        let hash = fnv1a(topic.as_bytes());
        // Both halves count: of short texts the lower one alone is uneven.
        ((hash ^ (hash >> 32)) % self.heads.len() as u64) as usize
    }

    /// The slot that a partition's tag gives.
    pub(super) fn slot(&self, partition: usize) -> u16 {
        let head = &self.heads[partition];
        let tag = head.split(['{', '}']).nth(1).unwrap_or_default();
        crc16(tag.as_bytes()) % SLOTS
    }

    /// The epoch with which topics of a partition begin.
    pub(super) fn epoch(&self, partition: usize) -> String {
        format!("{}epoch", self.heads[partition])
    }

    /// Epoch, head, and the head's id.
    pub(super) fn meta(&self, partition: usize, key: &TopicKey) -> String {
        format!("{}m:{key}", self.heads[partition])
    }

    /// The stream of what can be read again.
    pub(super) fn history(&self, partition: usize, key: &TopicKey) -> String {
        format!("{}h:{key}", self.heads[partition])
    }

    /// Of a last-value topic: where the newest of each key stands.
    pub(super) fn values(&self, partition: usize, key: &TopicKey) -> String {
        format!("{}v:{key}", self.heads[partition])
    }

    /// The result of the first publish with an idempotency key.
    pub(super) fn result(&self, partition: usize, key: &TopicKey, print: &str) -> String {
        format!("{}i:{print}:{key}", self.heads[partition])
    }

    /// The sharded channel of a topic.
    pub(super) fn channel(&self, partition: usize, key: &TopicKey) -> String {
        format!("{}c:{key}", self.heads[partition])
    }

    /// The sharded channel by which a node probes whether it hears anything.
    pub(super) fn probe(&self, partition: usize, node: &str) -> String {
        format!("{}p:{node}", self.heads[partition])
    }

    /// How many nodes have each user of a topic with presence.
    pub(super) fn attending(&self, partition: usize, key: &TopicKey) -> String {
        format!("{}o:{key}", self.heads[partition])
    }

    /// Nodes that have users of it.
    pub(super) fn attended_by(&self, partition: usize, key: &TopicKey) -> String {
        format!("{}on:{key}", self.heads[partition])
    }

    /// Users that a node has of it.
    pub(super) fn attending_at(&self, partition: usize, key: &TopicKey, node: &str) -> String {
        format!("{}oh:{node}:{key}", self.heads[partition])
    }

    /// The topic's part of a channel's name; none for a probe's.
    pub(super) fn topic_of<'c>(&self, channel: &'c str) -> Option<&'c str> {
        let (_, behind) = channel.split_once('}')?;
        behind.strip_prefix(":c:")
    }
}

/// For each partition the smallest number whose slot lies in its part.
fn tags(partitions: u16) -> Vec<u32> {
    let width = SLOTS / partitions;
    let mut tags: Vec<Option<u32>> = vec![None; usize::from(partitions)];
    let mut missing = tags.len();
    let mut number = 0_u32;
    while missing > 0 {
        let part = crc16(number.to_string().as_bytes()) % SLOTS / width;
        if let Some(tag @ None) = tags.get_mut(usize::from(part)) {
            *tag = Some(number);
            missing -= 1;
        }
        number += 1;
    }
    tags.into_iter().flatten().collect()
}

/// CRC16/XMODEM, by which Redis Cluster finds slots (Redis Cluster specification, "Keys distribution model").
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

/// FNV-1a: the same on every node and in every version.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A number by which a partition prefers servers: the highest of all wins (rendezvous hashing), so that a server more or
/// less moves only its own share.
pub(super) fn preference(partition: usize, server: &str) -> u64 {
    let mut hash = fnv1a(server.as_bytes()) ^ (partition as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Name, TenantId};

    #[test]
    fn crc16_is_that_of_redis() {
        // The specification's example.
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn partitions_are_spread_evenly_over_the_slots() {
        for partitions in [1, 2, 256, 4096] {
            let names = Names::new("carillon", partitions);
            for partition in 0..names.partitions() {
                let part = names.slot(partition) / (SLOTS / partitions);
                assert_eq!(usize::from(part), partition);
            }
        }
    }

    #[test]
    fn all_of_a_topic_is_in_one_slot_and_its_name_comes_back() {
        let names = Names::new("carillon", 256);
        let tenant = TenantId::new("t").unwrap();
        let key = TopicKey::topic(&tenant, &Name::new("a{b}:c%").unwrap());
        let partition = names.partition(&key);
        let channel = names.channel(partition, &key);
        assert_eq!(names.topic_of(&channel), Some(key.as_str()));
        assert_eq!(names.topic_of(&names.probe(partition, "n")), None);
        let tag = |name: &str| name.split(['{', '}']).nth(1).unwrap().to_owned();
        for name in [
            names.meta(partition, &key),
            names.history(partition, &key),
            names.values(partition, &key),
            names.result(partition, &key, "ff"),
            names.epoch(partition),
            names.attending(partition, &key),
            names.attended_by(partition, &key),
            names.attending_at(partition, &key, "n"),
        ] {
            assert_eq!(tag(&name), tag(&channel));
        }
    }

    #[test]
    fn topics_and_servers_share_evenly() {
        let names = Names::new("c", 256);
        let tenant = TenantId::new("t").unwrap();
        let mut counts = vec![0_u32; 256];
        for number in 0..25_600 {
            let user = Name::new(&format!("user-{number}")).unwrap();
            counts[names.partition(&TopicKey::user(&tenant, &user))] += 1;
        }
        assert!(
            counts.iter().all(|count| (50..=160).contains(count)),
            "{counts:?}"
        );
        let servers = ["a:1", "b:1", "c:1"];
        let chosen = |servers: &[&str], partition| {
            servers
                .iter()
                .max_by_key(|server| preference(partition, server))
                .copied()
                .unwrap()
                .to_owned()
        };
        let mut shares = std::collections::HashMap::new();
        for partition in 0..256 {
            let before = chosen(&servers, partition);
            *shares.entry(before.clone()).or_insert(0) += 1;
            // Without the third server only its own topics move.
            if before != "c:1" {
                assert_eq!(chosen(&servers[..2], partition), before);
            }
        }
        assert!(
            shares.values().all(|share| (55..=115).contains(share)),
            "{shares:?}"
        );
    }
}
