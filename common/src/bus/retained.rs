//! What a topic of the in-process bus remembers: its newest messages, or the newest value of each key.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{message::Message, policy::HistoryPolicy};

/// Bounds of one topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Messages, or keys.
    pub(super) count: usize,
    /// Payload bytes.
    pub(super) bytes: usize,
    /// Age of a message; none keeps it as long as there is room.
    pub(super) age: Option<Duration>,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    message: Arc<Message>,
}

/// Messages that can be read again, in the order of their offsets.
#[derive(Debug)]
pub(super) struct Retained {
    entries: Entries,
    bytes: usize,
}

#[derive(Debug)]
enum Entries {
    Nothing,
    Window(VecDeque<Entry>),
    Values(Box<Values>),
}

#[derive(Debug, Default)]
struct Values {
    by_offset: BTreeMap<u64, Entry>,
    by_key: HashMap<Box<str>, u64>,
    /// The highest offset of a value that left for want of room or for its age, not for a newer one.
    lost: u64,
}

impl Retained {
    /// Nothing yet. Offsets up to `lost` were given, and what they had cannot be read again.
    pub(super) fn new(policy: HistoryPolicy, lost: u64) -> Self {
        Self {
            entries: match policy {
                HistoryPolicy::None => Entries::Nothing,
                HistoryPolicy::Window => Entries::Window(VecDeque::new()),
                HistoryPolicy::LastValue => Entries::Values(Box::new(Values {
                    lost,
                    ..Values::default()
                })),
            },
            bytes: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.oldest().is_none()
    }

    /// Adds the newest message.
    pub(super) fn push(&mut self, message: Arc<Message>, bounds: &Bounds, now: Instant) {
        let entry = Entry { at: now, message };
        match &mut self.entries {
            Entries::Nothing => return,
            Entries::Window(entries) => {
                self.bytes += size(&entry.message);
                entries.push_back(entry);
            }
            Entries::Values(values) => {
                self.bytes += size(&entry.message);
                let offset = offset(&entry.message);
                let before = match values.by_key.get_mut(key(&entry.message)) {
                    Some(place) => Some(std::mem::replace(place, offset)),
                    None => values.by_key.insert(key(&entry.message).into(), offset),
                };
                if let Some(old) = before.and_then(|before| values.by_offset.remove(&before)) {
                    self.bytes -= size(&old.message);
                }
                values.by_offset.insert(offset, entry);
            }
        }
        self.trim(bounds, now);
    }

    /// Forgets what is beyond the bounds, the oldest first.
    pub(super) fn trim(&mut self, bounds: &Bounds, now: Instant) {
        while let Some((oldest, count)) = self.oldest() {
            let old = bounds.age.is_some_and(|age| now.duration_since(oldest.at) > age);
            if !old && count <= bounds.count && self.bytes <= bounds.bytes {
                return;
            }
            self.forget_oldest();
        }
    }

    fn oldest(&self) -> Option<(&Entry, usize)> {
        match &self.entries {
            Entries::Nothing => None,
            Entries::Window(entries) => entries.front().map(|entry| (entry, entries.len())),
            Entries::Values(values) => {
                let first = values.by_offset.first_key_value();
                first.map(|(_, entry)| (entry, values.by_offset.len()))
            }
        }
    }

    fn forget_oldest(&mut self) {
        let forgotten = match &mut self.entries {
            Entries::Nothing => None,
            Entries::Window(entries) => entries.pop_front(),
            Entries::Values(values) => values.by_offset.pop_first().map(|(offset, entry)| {
                values.by_key.remove(key(&entry.message));
                values.lost = offset;
                entry
            }),
        };
        self.bytes -= forgotten.map_or(0, |entry| size(&entry.message));
    }

    /// What is left behind an offset, in order, at most `limit` messages.
    pub(super) fn after(&self, after: u64, limit: usize) -> Vec<Arc<Message>> {
        let take = |entry: &Entry| Arc::clone(&entry.message);
        match &self.entries {
            Entries::Nothing => Vec::new(),
            Entries::Window(entries) => {
                let first = entries.partition_point(|entry| offset(&entry.message) <= after);
                entries.iter().skip(first).take(limit).map(take).collect()
            }
            Entries::Values(values) => {
                let behind = values.by_offset.range(after.saturating_add(1)..);
                behind.take(limit).map(|(_, entry)| take(entry)).collect()
            }
        }
    }

    /// [`super::History::superseded_after`].
    pub(super) fn superseded_after(&self) -> Option<u64> {
        match &self.entries {
            Entries::Values(values) => Some(values.lost),
            Entries::Nothing | Entries::Window(_) => None,
        }
    }
}

fn key(message: &Message) -> &str {
    message.header.conflate.as_deref().unwrap_or_default()
}

fn size(message: &Message) -> usize {
    message.payload.len()
}

fn offset(message: &Message) -> u64 {
    message.position.map_or(0, |position| position.offset)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ids::MessageId,
        message::{FrameKind, Header, Position},
        topic::TopicKey,
    };

    fn message(offset: u64, key: Option<u8>, len: usize) -> Arc<Message> {
        let mut header = Header::new(MessageId::generate(), FrameKind::Message);
        header.conflate = key.map(|key| key.to_string());
        Arc::new(Message {
            key: TopicKey::everyone(),
            position: Some(Position {
                epoch: 1,
                offset,
                check: header.id.check(),
            }),
            header,
            payload: Bytes::from(vec![b' '; len]),
        })
    }

    proptest! {
        /// Whatever comes: in order, within the bounds, one value a key, the newest; and what is missing behind
        /// `superseded_after` has a newer value.
        #[test]
        fn values_are_the_newest(
            steps in prop::collection::vec((prop::option::of(0u8..6), 1usize..40), 1..80),
            count in 1usize..6,
            bytes in 20usize..120,
        ) {
            let bounds = Bounds { count, bytes, age: None };
            let mut retained = Retained::new(HistoryPolicy::LastValue, 0);
            let mut newest: HashMap<String, u64> = HashMap::new();
            for ((value, len), at) in steps.into_iter().zip(1u64..) {
                let message = message(at, value, len);
                newest.insert(key(&message).to_owned(), at);
                retained.push(message, &bounds, Instant::now());
                let kept = retained.after(0, usize::MAX);
                prop_assert!(kept.len() <= count);
                prop_assert_eq!(kept.iter().map(|m| size(m)).sum::<usize>(), retained.bytes);
                prop_assert!(retained.bytes <= bytes);
                prop_assert!(kept.iter().map(|m| offset(m)).is_sorted());
                for message in &kept {
                    prop_assert_eq!(newest[key(message)], offset(message));
                }
                let lost = retained.superseded_after().unwrap();
                for newest in newest.values().filter(|newest| **newest > lost) {
                    prop_assert!(kept.iter().any(|message| offset(message) == *newest));
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn values_grow_old_only_where_that_is_asked() {
        let bounds = |age| Bounds {
            count: 10,
            bytes: 1000,
            age,
        };
        let mut retained = Retained::new(HistoryPolicy::LastValue, 0);
        retained.push(message(1, Some(1), 1), &bounds(None), Instant::now());
        tokio::time::advance(Duration::from_secs(100_000)).await;
        retained.push(message(2, Some(2), 1), &bounds(None), Instant::now());
        assert_eq!(retained.after(0, 10).len(), 2);
        assert_eq!(retained.superseded_after(), Some(0));
        retained.trim(&bounds(Some(Duration::from_secs(60))), Instant::now());
        assert_eq!(retained.after(0, 10).len(), 1);
        assert_eq!(retained.superseded_after(), Some(1));
    }
}
