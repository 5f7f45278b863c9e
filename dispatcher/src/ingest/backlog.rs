//! What of a partition is not done yet, and how far its offset may move. No I/O, no clock of its own.
//!
//! What has to be tried again later holds up only what comes behind it with the same key; the rest of the partition goes on.
//! The offset that may be committed is that of the first message that is not done.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Instant,
};

/// What keeps messages in order: those of one key are, a message without one is alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// By the hash of the message's key.
    Named(u64),
    /// By its offset.
    Alone(i64),
}

/// A message that is not done.
#[derive(Debug)]
pub(crate) struct Item<T> {
    pub(crate) offset: i64,
    pub(crate) key: Key,
    /// How often it was tried.
    pub(crate) attempts: u32,
    pub(crate) value: T,
}

/// What of a key waits.
#[derive(Debug)]
struct Held<T> {
    /// When the first of them is tried again; none: it is being tried.
    due: Option<Instant>,
    items: VecDeque<Item<T>>,
}

/// The messages of one partition that are not done.
#[derive(Debug)]
pub(crate) struct Backlog<T> {
    ready: VecDeque<Item<T>>,
    held: HashMap<Key, Held<T>>,
    open: BTreeSet<i64>,
    /// Behind the last message that came.
    next: Option<i64>,
}

impl<T> Default for Backlog<T> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            held: HashMap::new(),
            open: BTreeSet::new(),
            next: None,
        }
    }
}

impl<T> Backlog<T> {
    /// A message came. One that came before is passed over.
    pub(crate) fn push(&mut self, offset: i64, key: Key, value: T) {
        if self.next.is_some_and(|next| offset < next) {
            return;
        }
        self.next = Some(offset + 1);
        self.open.insert(offset);
        self.ready.push_back(Item {
            offset,
            key,
            attempts: 0,
            value,
        });
    }

    /// Messages that are not done and not being tried.
    pub(crate) fn len(&self) -> usize {
        self.ready.len() + self.held.values().map(|held| held.items.len()).sum::<usize>()
    }

    /// Takes what can be tried now, in order, at most so many: first what is due again. Each of them has to be given back by
    /// [`Self::done`], [`Self::again`], [`Self::behind`] or [`Self::give_back`] before the next are taken.
    pub(crate) fn take(&mut self, now: Instant, most: usize) -> Vec<Item<T>> {
        let mut due: Vec<(Instant, i64, Key)> = self
            .held
            .iter()
            .filter_map(|(key, held)| Some((held.due?, held.items.front()?.offset, *key)))
            .filter(|(at, ..)| *at <= now)
            .collect();
        due.sort_unstable_by_key(|(at, offset, _)| (*at, *offset));
        let mut taken = Vec::new();
        for (.., key) in due.into_iter().take(most) {
            if let Some(held) = self.held.get_mut(&key) {
                held.due = None;
                taken.extend(held.items.pop_front());
            }
        }
        while taken.len() < most
            && let Some(item) = self.ready.pop_front()
        {
            match self.held.get_mut(&item.key) {
                Some(held) => held.items.push_back(item),
                None => taken.push(item),
            }
        }
        taken
    }

    /// A message is done: stored, passed over, or a dead letter. What waited behind it can be tried.
    pub(crate) fn done(&mut self, item: &Item<T>) {
        self.open.remove(&item.offset);
        // Of several that are tried at once with one key none is held.
        if self.held.get(&item.key).is_some_and(|held| held.due.is_none())
            && let Some(held) = self.held.remove(&item.key)
        {
            for waiting in held.items.into_iter().rev() {
                self.ready.push_front(waiting);
            }
        }
    }

    /// A message is to be tried again at a time; what has its key waits for it.
    pub(crate) fn again(&mut self, mut item: Item<T>, due: Instant) {
        item.attempts += 1;
        let held = self.held.entry(item.key).or_insert_with(|| Held {
            due: None,
            items: VecDeque::new(),
        });
        held.due = Some(due);
        held.items.push_front(item);
    }

    /// A message was not tried, as one before it with its key is to be tried again.
    pub(crate) fn behind(&mut self, item: Item<T>) {
        match self.held.get_mut(&item.key) {
            Some(held) => held.items.push_back(item),
            None => self.ready.push_front(item),
        }
    }

    /// Messages were not tried for a reason that is not theirs. They are the first to be tried next, in this order.
    pub(crate) fn give_back(&mut self, items: Vec<Item<T>>, now: Instant) {
        for item in items.into_iter().rev() {
            match self.held.get_mut(&item.key) {
                Some(held) if held.due.is_none() => {
                    held.due = Some(now);
                    held.items.push_front(item);
                }
                _ => self.ready.push_front(item),
            }
        }
    }

    /// The offset up to which everything is done: the next one to be read by who takes the partition over.
    pub(crate) fn watermark(&self) -> Option<i64> {
        self.open.first().copied().or(self.next)
    }

    /// When something is to be tried again; none: nothing waits for a time.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.due).min()
    }
}

#[cfg(test)]
#[path = "backlog_tests.rs"]
mod tests;
