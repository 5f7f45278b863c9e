//! What this node says of its users in topics with presence, and what of it is in the table.

use std::collections::{HashMap, HashSet};

use common::{ids::Name, topic::TopicKey};

use crate::worker::presence::Attended;

/// What this node has of a user in a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    /// The user is here.
    wanted: bool,
    /// As far as this node knows.
    in_table: bool,
    /// It does not know.
    doubted: bool,
}

impl Held {
    fn is_settled(self) -> bool {
        self.wanted == self.in_table && !self.doubted
    }
}

/// What this node says of its users, and what of it is in the table.
#[derive(Debug, Default)]
pub(super) struct Book {
    topics: HashMap<TopicKey, HashMap<Name, Held>>,
    /// In the order in which it happened; some may be settled since.
    unsettled: Vec<(TopicKey, Name)>,
}

/// What is said to the table of one topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Saying {
    pub(super) topic: TopicKey,
    pub(super) exits: Vec<Name>,
    pub(super) enters: Vec<Name>,
}

impl Book {
    /// Whether nothing has to be said.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// The topics that users of this node are in.
    pub(super) fn topics(&self) -> Vec<TopicKey> {
        self.topics.keys().cloned().collect()
    }

    /// A worker said something.
    pub(super) fn note(&mut self, attended: Attended) {
        let Attended { topic, user, there } = attended;
        let held = self
            .topics
            .entry(topic.clone())
            .or_default()
            .entry(user.clone())
            .or_default();
        held.wanted = there;
        self.unsettled.push((topic, user));
    }

    /// What has to be said, by topics, at most so many users; the rest stays for the next time.
    pub(super) fn take_unsettled(&mut self, most: usize) -> Vec<Saying> {
        let mut sayings: Vec<Saying> = Vec::new();
        let mut places: HashMap<TopicKey, usize> = HashMap::new();
        let mut seen: HashSet<(TopicKey, Name)> = HashSet::new();
        let taken = self.unsettled.len().min(most);
        for (topic, user) in self.unsettled.drain(..taken) {
            let Some(users) = self.topics.get_mut(&topic) else {
                continue;
            };
            let Some(held) = users.get(&user).copied() else {
                continue;
            };
            if held.is_settled() {
                // It came and went, or went and came, in between.
                if !held.wanted {
                    users.remove(&user);
                }
                if users.is_empty() {
                    self.topics.remove(&topic);
                }
                continue;
            }
            if !seen.insert((topic.clone(), user.clone())) {
                continue;
            }
            let place = *places.entry(topic.clone()).or_insert_with(|| {
                sayings.push(Saying {
                    topic,
                    exits: Vec::new(),
                    enters: Vec::new(),
                });
                sayings.len() - 1
            });
            let saying = &mut sayings[place];
            if held.wanted {
                &mut saying.enters
            } else {
                &mut saying.exits
            }
            .push(user);
        }
        sayings
    }

    /// It could not be said, or only perhaps: once more.
    pub(super) fn put_back(&mut self, topic: &TopicKey, users: &[Name]) {
        let Some(its) = self.topics.get_mut(topic) else {
            return;
        };
        for user in users {
            if let Some(held) = its.get_mut(user) {
                held.doubted = true;
                self.unsettled.push((topic.clone(), user.clone()));
            }
        }
    }

    pub(super) fn entered(&mut self, topic: &TopicKey, users: &[Name]) {
        if let Some(its) = self.topics.get_mut(topic) {
            for user in users {
                if let Some(held) = its.get_mut(user) {
                    held.in_table = true;
                    held.doubted = false;
                }
            }
        }
    }

    pub(super) fn exited(&mut self, topic: &TopicKey, users: &[Name]) {
        let Some(its) = self.topics.get_mut(topic) else {
            return;
        };
        for user in users {
            if let Some(held) = its.get_mut(user) {
                held.in_table = false;
                held.doubted = false;
                if !held.wanted {
                    its.remove(user);
                }
            }
        }
        if its.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// All that is in the table is said again.
    pub(super) fn doubt_all(&mut self) {
        for (topic, users) in &mut self.topics {
            for (user, held) in users {
                if !held.doubted {
                    held.doubted = true;
                    self.unsettled.push((topic.clone(), user.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use common::ids::TenantId;

    use super::*;

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn topic(of: &str) -> TopicKey {
        TopicKey::topic(&TenantId::new("t").unwrap(), &name(of))
    }

    fn note(book: &mut Book, of: &str, user: &str, there: bool) {
        book.note(Attended {
            topic: topic(of),
            user: name(user),
            there,
        });
    }

    fn saying(of: &str, exits: &[&str], enters: &[&str]) -> Saying {
        Saying {
            topic: topic(of),
            exits: exits.iter().map(|user| name(user)).collect(),
            enters: enters.iter().map(|user| name(user)).collect(),
        }
    }

    #[test]
    fn what_cancels_out_is_not_said() {
        let mut book = Book::default();
        note(&mut book, "a", "u1", true);
        note(&mut book, "b", "u1", true);
        note(&mut book, "a", "u2", true);
        note(&mut book, "a", "u1", false);
        note(&mut book, "b", "u1", true);
        assert_eq!(
            book.take_unsettled(100),
            [saying("b", &[], &["u1"]), saying("a", &[], &["u2"])]
        );
        book.entered(&topic("b"), &[name("u1")]);
        book.entered(&topic("a"), &[name("u2")]);
        assert_eq!(book.take_unsettled(100), []);
        note(&mut book, "a", "u2", false);
        assert_eq!(book.take_unsettled(100), [saying("a", &["u2"], &[])]);
        book.exited(&topic("a"), &[name("u2")]);
        assert!(!book.topics.contains_key(&topic("a")), "nothing is kept");
    }

    #[test]
    fn what_could_not_be_said_is_said_later() {
        let mut book = Book::default();
        note(&mut book, "a", "u1", true);
        let unsaid = book.take_unsettled(1);
        book.put_back(&unsaid[0].topic, &unsaid[0].enters);
        assert_eq!(book.take_unsettled(1), unsaid);
        book.put_back(&unsaid[0].topic, &unsaid[0].enters);
        note(&mut book, "a", "u1", false);
        // The table may have it all the same.
        assert_eq!(book.take_unsettled(100), [saying("a", &["u1"], &[])]);
        book.exited(&topic("a"), &[name("u1")]);
        assert!(book.topics.is_empty() && book.unsettled.is_empty());
    }

    #[test]
    fn all_can_be_said_again() {
        let mut book = Book::default();
        note(&mut book, "a", "u1", true);
        note(&mut book, "a", "u2", true);
        book.take_unsettled(100);
        book.entered(&topic("a"), &[name("u1"), name("u2")]);
        book.doubt_all();
        let mut said = book.take_unsettled(100);
        said[0].enters.sort_unstable();
        assert_eq!(said, [saying("a", &[], &["u1", "u2"])]);
        // Who goes meanwhile is taken out all the same.
        note(&mut book, "a", "u1", false);
        assert_eq!(book.take_unsettled(100), [saying("a", &["u1"], &[])]);
    }
}
