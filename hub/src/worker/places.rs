//! Messages on their way to the sessions of a worker. Each has a place of 64; a session's pending messages are a bit mask
//! of places, so that a fan-out allocates nothing for a recipient. A place is free again when no session has it pending.
//!
//! Plain data: no socket.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::receive::{Outgoing, Wire};

/// Places, and so the most frames that one write takes.
pub(super) const PLACES: usize = 64;

/// Frames that many sessions have pending together are joined into one buffer, up to so many bytes: one short write is
/// cheaper for the kernel than a vector of small ones.
const JOINED_MAX: usize = 64 * 1024;

/// Places whose frames a session has pending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pending(u64);

impl Pending {
    /// Adds a place; whether it is the first.
    pub(super) fn add(&mut self, place: u8) -> bool {
        let first = self.0 == 0;
        self.0 |= 1 << place;
        first
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn iter(self) -> impl Iterator<Item = u8> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            (left != 0).then(|| {
                let place = left.trailing_zeros() as u8;
                left &= left - 1;
                place
            })
        })
    }
}

#[derive(Debug)]
struct Slot {
    outgoing: Arc<Outgoing>,
    /// Sessions that have it pending.
    waiting: u32,
    /// When it came, among all messages of the worker.
    serial: u64,
}

/// The pending frames of one mask, in the order in which their messages came.
#[derive(Debug, Default)]
struct Order {
    mask: Pending,
    places: Vec<u8>,
    total: usize,
    /// The frames one behind the other, made when the mask is seen for the second time in a row.
    joined: Option<Bytes>,
    seen: u32,
}

/// The places of a worker.
#[derive(Debug)]
pub(super) struct Places {
    slots: [Option<Slot>; PLACES],
    used: u64,
    last: u8,
    serial: u64,
    /// Of the masks at hand, for each wire: sessions of a broadcast mostly have the same one.
    orders: [Order; 2],
    /// Payloads of at least so many bytes are compressed where that was agreed.
    deflate_from: usize,
}

impl Places {
    pub(super) fn new(deflate_from: usize) -> Self {
        Self {
            slots: [const { None }; PLACES],
            used: 0,
            last: PLACES as u8 - 1,
            serial: 0,
            orders: Default::default(),
            deflate_from,
        }
    }

    /// Messages that may be put.
    pub(super) fn free(&self) -> usize {
        PLACES - self.used.count_ones() as usize
    }

    /// Gives a message a place, for as many sessions as [`Places::put`] then says.
    pub(super) fn reserve(&self) -> Option<u8> {
        // The next one in the round, so that a mask's bits are mostly in the order of arrival.
        let from = u32::from(self.last) + 1;
        let free = (!self.used).rotate_right(from % PLACES as u32);
        (free != 0).then(|| ((free.trailing_zeros() + from) % PLACES as u32) as u8)
    }

    /// Puts the message at a place that was reserved; `waiting` sessions, at least one, have it pending.
    pub(super) fn put(&mut self, place: u8, outgoing: Arc<Outgoing>, waiting: u32) {
        debug_assert!(waiting > 0 && self.used & (1 << place) == 0);
        self.serial += 1;
        self.slots[usize::from(place)] = Some(Slot {
            outgoing,
            waiting,
            serial: self.serial,
        });
        self.used |= 1 << place;
        self.last = place;
        self.forget_orders();
    }

    /// The frames of a mask in order, to be written; [`Places::done`] is called behind it.
    pub(super) fn frames(&mut self, mask: Pending, wire: Wire) -> Frames<'_> {
        if self.orders[wire as usize].mask == mask {
            let seen = &mut self.orders[wire as usize].seen;
            *seen = seen.saturating_add(1);
        } else {
            self.arrange(mask, wire);
        }
        let deflate_from = self.deflate_from;
        let order = &mut self.orders[wire as usize];
        if order.places.len() > 1 && order.seen == 2 && order.joined.is_none() && order.total <= JOINED_MAX {
            let mut joined = BytesMut::with_capacity(order.total);
            for place in &order.places {
                if let Some(slot) = &self.slots[usize::from(*place)] {
                    joined.extend_from_slice(slot.outgoing.frame_for(wire, deflate_from));
                }
            }
            order.joined = Some(joined.freeze());
        }
        Frames {
            slots: &self.slots,
            order,
            wire,
            deflate_from,
        }
    }

    fn forget_orders(&mut self) {
        self.orders
            .iter_mut()
            .for_each(|order| order.mask = Pending::default());
    }

    fn arrange(&mut self, mask: Pending, wire: Wire) {
        let order = &mut self.orders[wire as usize];
        order.mask = mask;
        order.joined = None;
        order.seen = 1;
        order.total = 0;
        order.places.clear();
        let serial = |place: u8| {
            self.slots[usize::from(place)]
                .as_ref()
                .map_or(0, |slot| slot.serial)
        };
        for place in mask.iter() {
            if let Some(slot) = &self.slots[usize::from(place)] {
                order.total += slot.outgoing.frame_for(wire, self.deflate_from).len();
                order.places.push(place);
            }
        }
        order.places.sort_unstable_by_key(|place| serial(*place));
    }

    /// A session has a mask's frames pending no more: they were written, queued, or are not for it any longer.
    pub(super) fn done(&mut self, mask: Pending) {
        let mut freed = false;
        for place in mask.iter() {
            let slot = &mut self.slots[usize::from(place)];
            let Some(its) = slot else { continue };
            its.waiting -= 1;
            if its.waiting == 0 {
                *slot = None;
                self.used &= !(1 << place);
                freed = true;
            }
        }
        if freed {
            self.forget_orders();
        }
    }
}

/// The frames that a session has pending, in the order in which their messages came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames<'a> {
    slots: &'a [Option<Slot>; PLACES],
    order: &'a Order,
    wire: Wire,
    deflate_from: usize,
}

impl<'a> Frames<'a> {
    pub(super) fn count(&self) -> usize {
        self.order.places.len()
    }

    /// Bytes of all of them.
    pub(super) fn total(&self) -> usize {
        self.order.total
    }

    /// All of them in one piece, where that was worth making.
    pub(super) fn joined(&self) -> Option<&'a Bytes> {
        self.order.joined.as_ref()
    }

    /// The messages, and their frames as they go to the session.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a Arc<Outgoing>, &'a Bytes)> + use<'a> {
        let Self {
            slots,
            wire,
            deflate_from,
            ..
        } = *self;
        self.order
            .places
            .iter()
            .filter_map(move |place| slots[usize::from(*place)].as_ref())
            .map(move |slot| (&slot.outgoing, slot.outgoing.frame_for(wire, deflate_from)))
    }
}

#[cfg(test)]
mod tests {
    use common::{
        ids::MessageId,
        message::{FrameKind, Header, Message},
        topic::TopicKey,
    };
    use proptest::prelude::*;

    use super::*;

    fn outgoing(text: &str) -> Arc<Outgoing> {
        Arc::new(Outgoing::new(Arc::new(Message {
            key: TopicKey::everyone(),
            position: None,
            header: Header::new(MessageId::generate(), FrameKind::Message),
            payload: format!("{{\"n\":{text}}}").into(),
        })))
    }

    fn texts(places: &mut Places, mask: Pending) -> Vec<Bytes> {
        let frames = places.frames(mask, Wire::Plain);
        let each: Vec<Bytes> = frames.iter().map(|(_, frame)| frame.clone()).collect();
        assert_eq!(frames.count(), each.len());
        assert_eq!(frames.total(), each.iter().map(Bytes::len).sum::<usize>());
        if let Some(joined) = frames.joined() {
            assert_eq!(joined[..], each.concat());
        }
        each
    }

    #[test]
    fn a_place_is_free_when_its_last_session_is_done() {
        let mut places = Places::new(0);
        for number in 0..PLACES {
            let place = places.reserve().unwrap();
            places.put(place, outgoing(&number.to_string()), 2);
        }
        assert_eq!((places.reserve(), places.free()), (None, 0));
        let mut one = Pending::default();
        assert!(one.add(7));
        places.done(one);
        assert_eq!(places.free(), 0);
        places.done(one);
        assert_eq!((places.reserve(), places.free()), (Some(7), 1));
    }

    #[test]
    fn sessions_with_the_same_frames_share_one_buffer() {
        let mut places = Places::new(0);
        let mut mask = Pending::default();
        for number in 0..3 {
            let place = places.reserve().unwrap();
            places.put(place, outgoing(&number.to_string()), 9);
            assert_eq!(mask.add(place), number == 0);
        }
        assert!(
            places.frames(mask, Wire::Plain).joined().is_none(),
            "once is not worth it"
        );
        let pointer = places.frames(mask, Wire::Plain).joined().unwrap().as_ptr();
        assert_eq!(
            places.frames(mask, Wire::Plain).joined().unwrap().as_ptr(),
            pointer
        );
        // Another message in between: what was joined does not stand any more.
        let place = places.reserve().unwrap();
        places.put(place, outgoing("3"), 1);
        mask.add(place);
        assert_eq!(texts(&mut places, mask).len(), 4);
        assert_eq!(texts(&mut places, mask).len(), 4);
    }

    proptest! {
        /// Whatever comes and is flushed in whatever order, each session gets all that it had pending, once, in the
        /// order in which it came.
        #[test]
        fn order_is_kept(steps in prop::collection::vec((any::<bool>(), 0usize..4, any::<u8>()), 0..400)) {
            let mut places = Places::new(0);
            let mut sessions: [(Pending, Vec<Bytes>); 4] = Default::default();
            for (number, (put, which, members)) in steps.into_iter().enumerate() {
                if put {
                    let members: Vec<usize> = (0..4).filter(|at| members & (1 << at) != 0).collect();
                    let Some(place) = places.reserve().filter(|_| !members.is_empty()) else { continue };
                    let message = outgoing(&number.to_string());
                    for at in &members {
                        sessions[*at].0.add(place);
                        sessions[*at].1.push(message.frame.clone());
                    }
                    places.put(place, message, members.len() as u32);
                } else {
                    let mask = sessions[which].0.take();
                    let expected = std::mem::take(&mut sessions[which].1);
                    if mask.is_empty() {
                        prop_assert!(expected.is_empty());
                        continue;
                    }
                    prop_assert_eq!(&texts(&mut places, mask), &expected);
                    prop_assert_eq!(texts(&mut places, mask), expected);
                    places.done(mask);
                }
            }
            for (mask, _) in &mut sessions {
                places.done(mask.take());
            }
            prop_assert_eq!(places.free(), PLACES);
        }
    }
}
