//! Users of topics whose policy asks for presence: who is there on this node, and who is not any more.
//!
//! A user's sessions share a worker, so first and last are known without asking anybody. Who comes back within the grace
//! was never away. What becomes of it over all nodes is said elsewhere ([`crate::nodes`]).

use std::collections::{HashMap, VecDeque};

use common::{ids::Name, topic::TopicKey};
use slab::Slab;

use super::{Worker, session::Who, wheel::Due};

/// Comings and goings that may wait to be looked at over all nodes.
pub(crate) const ATTENDED: usize = 4096;

/// The same on a worker when these have no room; beyond, they are dropped and counted.
const UNSAID: usize = 65_536;

/// A user is in a topic on this node, or is not any more.
#[derive(Debug)]
pub(crate) struct Attended {
    pub(crate) topic: TopicKey,
    pub(crate) user: Name,
    pub(crate) there: bool,
}

/// Users of topics with presence, on this worker.
#[derive(Debug, Default)]
pub(super) struct Attendees {
    topics: HashMap<TopicKey, HashMap<Name, Attendee>>,
    /// Users whose last session left and who may still come back, by the number that is on the wheel.
    absences: Slab<(TopicKey, Name)>,
    /// What found no room, in order.
    unsaid: VecDeque<Attended>,
}

#[derive(Debug, Default)]
struct Attendee {
    sessions: u32,
    /// The absence that is the newest; older ones were ended by a return.
    absent: Option<u32>,
}

impl Attendees {
    /// A session of the user joined; whether that is to be told.
    fn enter(&mut self, topic: &TopicKey, user: &Name) -> bool {
        if !self.topics.contains_key(topic.as_str()) {
            self.topics.insert(topic.clone(), HashMap::new());
        }
        let Some(users) = self.topics.get_mut(topic.as_str()) else {
            return false;
        };
        let is_new = !users.contains_key(user);
        let attendee = users.entry(user.clone()).or_default();
        attendee.sessions += 1;
        attendee.absent = None;
        is_new
    }

    /// A session of the user left; the number of its absence, if it was the last.
    fn exit(&mut self, topic: &TopicKey, user: &Name) -> Option<u32> {
        let attendee = self.topics.get_mut(topic.as_str())?.get_mut(user)?;
        attendee.sessions = attendee.sessions.saturating_sub(1);
        if attendee.sessions > 0 {
            return None;
        }
        let number = self.absences.insert((topic.clone(), user.clone())) as u32;
        attendee.absent = Some(number);
        Some(number)
    }

    /// The grace has passed; who is really gone, and from where.
    fn end_absence(&mut self, number: u32) -> Option<(TopicKey, Name)> {
        let (topic, user) = self.absences.try_remove(number as usize)?;
        let users = self.topics.get_mut(topic.as_str())?;
        if users
            .get(&user)
            .is_none_or(|attendee| attendee.absent != Some(number))
        {
            return None;
        }
        users.remove(&user);
        if users.is_empty() {
            self.topics.remove(topic.as_str());
        }
        Some((topic, user))
    }

    fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

impl Worker {
    /// A session is a member of a topic now.
    pub(super) fn entered(&mut self, who: &Who, number: u32) {
        let Some(topic) = self
            .index
            .get(number)
            .filter(|_| self.index.policy(number).presence)
        else {
            return;
        };
        let key = topic.key.clone();
        if self.attendees.enter(&key, &who.reader.user) {
            self.say(Attended {
                topic: key,
                user: who.reader.user.clone(),
                there: true,
            });
        }
    }

    /// A session is a member no more.
    pub(super) fn left(&mut self, who: &Who, number: u32) {
        // Who is sent away by a stopping node comes back elsewhere, and is told there.
        if self.attendees.is_empty() || self.draining {
            return;
        }
        let Some(topic) = self.index.get(number) else {
            return;
        };
        if let Some(absence) = self.attendees.exit(&topic.key, &who.reader.user) {
            let grace = self.shared.config.presence_grace.0.as_secs();
            self.wheel
                .after(u32::try_from(grace).unwrap_or(u32::MAX), Due::Absent(absence));
        }
    }

    /// Who left a while ago may be gone.
    pub(super) fn end_absence(&mut self, number: u32) {
        if let Some((topic, user)) = self.attendees.end_absence(number)
            && !self.draining
        {
            self.say(Attended {
                topic,
                user,
                there: false,
            });
        }
    }

    fn say(&mut self, attended: Attended) {
        let unsaid = &mut self.attendees.unsaid;
        if unsaid.len() < UNSAID {
            unsaid.push_back(attended);
        } else {
            self.shared.metrics.presence_dropped.inc();
        }
        self.say_on();
    }

    /// Says what has found no room before.
    pub(super) fn say_on(&mut self) {
        while !self.attendees.unsaid.is_empty()
            && let Ok(permit) = self.shared.attended.try_reserve()
            && let Some(attended) = self.attendees.unsaid.pop_front()
        {
            permit.send(attended);
        }
    }
}

#[cfg(test)]
mod tests {
    use common::ids::TenantId;
    use proptest::prelude::*;

    use super::*;

    fn topic() -> TopicKey {
        TopicKey::topic(&TenantId::new("t").unwrap(), &Name::new("room").unwrap())
    }

    fn user(number: u8) -> Name {
        Name::new(&format!("u{number}")).unwrap()
    }

    #[test]
    fn who_comes_back_in_time_was_never_away() {
        let mut attendees = Attendees::default();
        let (topic, ann) = (topic(), user(1));
        assert!(attendees.enter(&topic, &ann));
        assert!(!attendees.enter(&topic, &ann), "another tab");
        assert_eq!(attendees.exit(&topic, &ann), None);
        let absence = attendees.exit(&topic, &ann).unwrap();
        assert!(!attendees.enter(&topic, &ann), "back in time");
        let newer = attendees.exit(&topic, &ann).unwrap();
        assert_eq!(attendees.end_absence(absence), None);
        assert_eq!(attendees.end_absence(newer), Some((topic.clone(), ann.clone())));
        assert!(attendees.is_empty());
        assert!(attendees.enter(&topic, &ann));
    }

    proptest! {
        /// Whatever happens: joins and leaves of a user alternate, and nothing is kept when all have gone.
        #[test]
        fn joins_and_leaves_alternate(steps in prop::collection::vec((0u8..3, 0u8..3), 0..200)) {
            let mut attendees = Attendees::default();
            let topic = topic();
            let mut sessions = [0u32; 3];
            let mut told = [false; 3];
            let mut waiting = std::collections::VecDeque::new();
            let end = |attendees: &mut Attendees, told: &mut [bool; 3], sessions: &[u32; 3], number: u32| {
                if let Some((_, gone)) = attendees.end_absence(number) {
                    let who = (0..3).find(|who| user(*who) == gone).unwrap() as usize;
                    assert!(told[who] && sessions[who] == 0);
                    told[who] = false;
                }
            };
            for (step, who) in steps {
                let at = usize::from(who);
                match step {
                    0 => {
                        let join = attendees.enter(&topic, &user(who));
                        prop_assert_eq!(join, !told[at]);
                        told[at] = true;
                        sessions[at] += 1;
                    }
                    1 if sessions[at] > 0 => {
                        sessions[at] -= 1;
                        waiting.extend(attendees.exit(&topic, &user(who)));
                    }
                    _ => if let Some(number) = waiting.pop_front() {
                        end(&mut attendees, &mut told, &sessions, number);
                    },
                }
            }
            for who in 0..3u8 {
                for _ in 0..std::mem::take(&mut sessions[usize::from(who)]) {
                    waiting.extend(attendees.exit(&topic, &user(who)));
                }
            }
            for number in waiting {
                end(&mut attendees, &mut told, &sessions, number);
            }
            prop_assert_eq!(told, [false; 3]);
            prop_assert!(attendees.is_empty() && attendees.absences.is_empty());
        }
    }
}
