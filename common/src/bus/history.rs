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
/// history no longer has, is [`Replay::Resync`].
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
    let mut expected = position.offset;
    let mut missed = Vec::with_capacity(history.messages.len());
    if position.offset == 0 {
        // Nothing stood at offset 0: only the dense run behind it has to be there.
        expected = 1;
    }
    for message in &history.messages {
        let Some(at) = message.position.filter(|at| at.epoch == epoch) else {
            return Replay::Resync;
        };
        if at.offset != expected {
            return Replay::Resync;
        }
        if at.offset == position.offset {
            if at.check != position.check {
                return Replay::Resync;
            }
        } else {
            missed.push(Arc::clone(message));
        }
        expected += 1;
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
        History { head, messages }
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
        };
        assert_eq!(missed(resume(start, &empty)), Some(0));
    }
}
