//! Whose sockets are written next: topics with few members before those with many, and those with many in turns, so that
//! one hot topic holds up neither the others nor the worker's other inputs. Plain data.

use std::collections::VecDeque;

use super::SessionId;

/// A topic with at most so many members goes before the slices of large ones.
pub(super) const FEW: usize = 32;

/// A list that a broadcast needed is not kept larger than this.
const KEPT: usize = 1024;

/// Sessions with something pending, in the order of their flush.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Of topics with few members.
    few: VecDeque<SessionId>,
    /// Of each topic with many; the front one has its turn.
    many: VecDeque<Many>,
    /// The last turn was that of `few`.
    few_last: bool,
    /// A list to be used again.
    spare: VecDeque<SessionId>,
}

#[derive(Debug)]
struct Many {
    topic: u32,
    sessions: VecDeque<SessionId>,
}

/// Whose turn it is, with the sessions that wait. It is given back by [`Turns::end`].
#[derive(Debug)]
pub(super) struct Turn {
    /// None for topics with few members.
    topic: Option<u32>,
    /// The sessions, from which flushed ones are taken.
    pub(super) sessions: VecDeque<SessionId>,
}

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    /// The list on which a topic's sessions wait. Who gets something of a topic with few members is put on its list also
    /// when it waits on another, which may be long.
    pub(super) fn list(&mut self, topic: u32, members: usize) -> &mut VecDeque<SessionId> {
        if members <= FEW {
            return &mut self.few;
        }
        let at = self.many.iter().position(|many| many.topic == topic);
        let at = at.unwrap_or_else(|| {
            let sessions = std::mem::take(&mut self.spare);
            self.many.push_back(Many { topic, sessions });
            self.many.len() - 1
        });
        &mut self.many[at].sessions
    }

    /// Begins the next turn.
    pub(super) fn begin(&mut self) -> Option<Turn> {
        let few = !self.few.is_empty() && (!self.few_last || self.many.is_empty());
        self.few_last = few;
        if few {
            return Some(Turn {
                topic: None,
                sessions: std::mem::take(&mut self.few),
            });
        }
        self.many.pop_front().map(|many| Turn {
            topic: Some(many.topic),
            sessions: many.sessions,
        })
    }

    /// Ends a turn; what is left waits for the next one.
    pub(super) fn end(&mut self, turn: Turn) {
        let Turn { topic, mut sessions } = turn;
        if sessions.is_empty() {
            sessions.shrink_to(KEPT);
        }
        let list = match topic {
            None => &mut self.few,
            Some(_) if sessions.is_empty() => {
                self.spare = sessions;
                return;
            }
            Some(topic) => self.list_of_many(topic),
        };
        // Flushing puts nothing on a list today; were it to, that would come behind what is left.
        sessions.append(list);
        *list = sessions;
    }

    fn list_of_many(&mut self, topic: u32) -> &mut VecDeque<SessionId> {
        self.list(topic, usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> SessionId {
        SessionId { slot, generation: 0 }
    }

    /// Takes `slice` sessions of each turn until nothing waits; the slots in the order of their flush.
    fn flushed(turns: &mut Turns, slice: usize) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(mut turn) = turns.begin() {
            for _ in 0..slice {
                order.extend(turn.sessions.pop_front().map(|id| id.slot));
            }
            turns.end(turn);
        }
        assert!(turns.is_empty());
        order
    }

    #[test]
    fn large_topics_take_turns() {
        let mut turns = Turns::default();
        turns.list(7, 1000).extend((0..4).map(id));
        turns.list(8, 1000).extend((10..14).map(id));
        assert_eq!(flushed(&mut turns, 2), [0, 1, 10, 11, 2, 3, 12, 13]);
    }

    #[test]
    fn few_go_first_and_do_not_starve_many() {
        let mut turns = Turns::default();
        turns.list(7, FEW + 1).extend((0..4).map(id));
        turns.list(1, 1).push_back(id(100));
        turns.list(2, FEW).extend((101..104).map(id));
        assert_eq!(flushed(&mut turns, 2), [100, 101, 0, 1, 102, 103, 2, 3]);
    }

    #[test]
    fn what_comes_meanwhile_joins_the_end_of_its_topic_s_list() {
        let mut turns = Turns::default();
        turns.list(7, 1000).extend((0..3).map(id));
        let mut turn = turns.begin().unwrap();
        assert_eq!(turn.sessions.pop_front(), Some(id(0)));
        turns.list(7, 1000).push_back(id(0));
        turns.end(turn);
        assert_eq!(flushed(&mut turns, 10), [1, 2, 0]);
    }

    #[test]
    fn what_a_broadcast_needed_is_given_back() {
        let mut turns = Turns::default();
        turns.list(7, 100_000).extend((0..100_000).map(id));
        assert_eq!(flushed(&mut turns, 1000).len(), 100_000);
        assert!(turns.spare.capacity() <= 2 * KEPT, "{}", turns.spare.capacity());
    }
}
