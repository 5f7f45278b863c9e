//! Decisions about history that need no I/O.

use std::sync::Arc;

use super::{Head, History};
use crate::message::{Message, Position};

/// What a session that comes back with a position gets.
#[derive(Debug, Clone)]
pub enum Replay {
    /// All that it missed, in order; empty when it missed nothing.
    Missed(Vec<Arc<Message>>),
    /// It cannot be told what was missed: the inbox has to be read.
    Resync,
}

/// Decides what a position still stands for. `history` is what is left from one before the position's offset on, so
/// that the message at the position itself, if history has it, is its first entry.
///
/// Whole or refused: an epoch that ended, an offset beyond the head, another message at the offset, or a message that
/// history no longer has, is [`Replay::Resync`]. In a last-value topic a message that gave way to a newer one is not
/// missed. A position of [`Position::before`] is told by the message behind it.
#[must_use]
pub fn resume(position: Position, history: &History) -> Replay {
    let Head {
        epoch, offset: head, ..
    } = history.head;
    if position.epoch != epoch || position.offset > head {
        return Replay::Resync;
    }
    if position.offset == head {
        let same = position.check == history.head.position().check;
        return if same {
            Replay::Missed(Vec::new())
        } else {
            Replay::Resync
        };
    }
    let told_by_next = history
        .messages
        .iter()
        .filter_map(|message| message.position)
        .any(|at| at.offset > position.offset && at.before() == position);
    // What may be absent without being missed: all in a last-value topic, up to what it lost for want of room.
    let superseded = history
        .superseded_after
        .is_some_and(|lost| lost <= position.offset);
    // Nothing stood at offset 0: only the dense run behind it has to be there.
    let may_be_absent = position.offset == 0 || told_by_next || superseded;
    let mut expected = position.offset + u64::from(may_be_absent);
    let mut missed = Vec::with_capacity(history.messages.len());
    for message in &history.messages {
        let Some(at) = message.position.filter(|at| at.epoch == epoch) else {
            return Replay::Resync;
        };
        if at.offset == position.offset {
            if at.check != position.check && !told_by_next {
                return Replay::Resync;
            }
            expected = at.offset + 1;
            continue;
        }
        if at.offset != expected && !superseded {
            return Replay::Resync;
        }
        missed.push(Arc::clone(message));
        expected = at.offset + 1;
    }
    // `expected` is one behind the last message that history gave.
    if expected == head + 1 {
        Replay::Missed(missed)
    } else {
        Replay::Resync
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        ids::MessageId,
        message::{FrameKind, Header},
        topic::TopicKey,
    };

    fn message(epoch: u64, offset: u64) -> Arc<Message> {
        let header = Header::new(MessageId::generate(), FrameKind::Message);
        let check = header.id.check();
        Arc::new(Message {
            key: TopicKey::everyone(),
            position: Some(Position { epoch, offset, check }),
            header,
            payload: Bytes::from_static(b"{}"),
        })
    }

    fn history(messages: Vec<Arc<Message>>) -> History {
        let last = messages.last().unwrap();
        let position = last.position.unwrap();
        let head = Head {
            epoch: position.epoch,
            offset: position.offset,
            id: Some(last.header.id),
        };
        History {
            head,
            messages,
            superseded_after: None,
        }
    }

    fn missed(replay: Replay) -> Option<usize> {
        match replay {
            Replay::Missed(messages) => Some(messages.len()),
            Replay::Resync => None,
        }
    }

    #[test]
    fn whole_or_refused() {
        let messages: Vec<_> = (3..=6).map(|offset| message(7, offset)).collect();
        let at = |index: usize| messages[index].position.unwrap();
        let from = |index: usize| history(messages[index..].to_vec());

        assert_eq!(missed(resume(at(0), &from(0))), Some(3));
        assert_eq!(missed(resume(at(3), &from(3))), Some(0));
        // The entry at the position is trimmed.
        assert_eq!(missed(resume(Position { offset: 2, ..at(0) }, &from(0))), None);
        assert_eq!(missed(resume(at(0), &from(1))), None);
        // Another message took the offset.
        assert_eq!(
            missed(resume(
                Position {
                    check: at(0).check ^ 1,
                    ..at(0)
                },
                &from(0)
            )),
            None
        );
        assert_eq!(
            missed(resume(
                Position {
                    check: at(3).check ^ 1,
                    ..at(3)
                },
                &from(3)
            )),
            None
        );
        // Another epoch, or beyond the head.
        assert_eq!(missed(resume(Position { epoch: 8, ..at(0) }, &from(0))), None);
        assert_eq!(missed(resume(Position { offset: 7, ..at(3) }, &from(3))), None);
        // A hole, or a tail that the read did not reach.
        let mut holed = from(0);
        holed.messages.remove(2);
        assert_eq!(missed(resume(at(0), &holed)), None);
        let mut short = from(0);
        short.messages.pop();
        assert_eq!(missed(resume(at(0), &short)), None);
    }

    #[test]
    fn superseded_is_not_missed() {
        let messages: Vec<_> = (3..=7).map(|offset| message(7, offset)).collect();
        let at = |index: usize| messages[index].position.unwrap();
        // 4 and 6 gave way to newer ones; 2 was lost for want of room.
        let left = |from: u64| {
            let kept = messages.iter().filter(|message| {
                let offset = message.position.unwrap().offset;
                [3, 5, 7].contains(&offset) && offset >= from
            });
            History {
                superseded_after: Some(2),
                ..history(kept.map(Arc::clone).collect())
            }
        };
        assert_eq!(missed(resume(at(0), &left(3))), Some(2));
        assert_eq!(
            missed(resume(at(1), &left(4))),
            Some(2),
            "what stood there gave way"
        );
        assert_eq!(missed(resume(at(3), &left(6))), Some(1));
        assert_eq!(missed(resume(at(4), &left(7))), Some(0));
        assert_eq!(missed(resume(Position { offset: 2, ..at(0) }, &left(2))), Some(3));
        assert_eq!(missed(resume(Position { offset: 1, ..at(0) }, &left(1))), None);
        let other = Position {
            check: at(2).check ^ 1,
            ..at(2)
        };
        assert_eq!(missed(resume(other, &left(5))), None);
        // In any other topic the same is a hole.
        let window = History {
            superseded_after: None,
            ..left(3)
        };
        assert_eq!(missed(resume(at(0), &window)), None);
    }

    #[test]
    fn a_place_before_a_message_is_told_by_it() {
        let messages: Vec<_> = (3..=5).map(|offset| message(7, offset)).collect();
        let before = |index: usize| messages[index].position.unwrap().before();
        let all = history(messages.clone());
        assert_eq!(
            missed(resume(before(0), &all)),
            Some(3),
            "the entry at the place is not needed"
        );
        assert_eq!(missed(resume(before(1), &all)), Some(2));
        assert_eq!(
            missed(resume(before(2), &history(messages[1..].to_vec()))),
            Some(1)
        );
        // The message was lost with the tail, or another one took its offset, or history has forgotten it.
        assert_eq!(missed(resume(before(2), &history(messages[1..2].to_vec()))), None);
        let other = vec![Arc::clone(&messages[1]), message(7, 5)];
        assert_eq!(missed(resume(before(2), &history(other))), None);
        assert_eq!(missed(resume(before(0), &history(messages[1..].to_vec()))), None);
    }

    #[test]
    fn offset_zero_is_before_the_first() {
        let messages: Vec<_> = (1..=2).map(|offset| message(7, offset)).collect();
        let start = Position {
            epoch: 7,
            offset: 0,
            check: 0,
        };
        assert_eq!(missed(resume(start, &history(messages.clone()))), Some(2));
        assert_eq!(missed(resume(start, &history(messages[1..].to_vec()))), None);
        let empty = History {
            head: Head {
                epoch: 7,
                offset: 0,
                id: None,
            },
            messages: vec![],
            superseded_after: None,
        };
        assert_eq!(missed(resume(start, &empty)), Some(0));
    }
}
