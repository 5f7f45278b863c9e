//! What comes over a subscribing connection: messages, confirmations, ends of subscriptions, refusals.

use std::sync::Arc;

use bytes::Bytes;
use redis_protocol::resp3::types::BytesFrame;
use tokio::time::Instant;

use super::{
    super::super::{
        wanted::Stand,
        wire::{Refusal, blob, list, text},
    },
    Connection, Probe, Written,
};
use crate::{
    message::{Message, Position, decode_envelope},
    topic::TopicKey,
};

impl Connection<'_> {
    /// Something came.
    pub(super) fn heard(&mut self, frame: &BytesFrame) {
        if let Some(refusal) = Refusal::in_reply(frame) {
            self.refused(&refusal);
            return;
        }
        let Some([kind, channel, rest @ ..]) = list(frame) else {
            return;
        };
        let (Some(kind), Some(channel)) = (text(kind), text(channel)) else {
            return;
        };
        match kind {
            "smessage" => {
                self.heard = Instant::now();
                self.proved = true;
                self.probe = Probe::None;
                if let Some(payload) = rest.first().and_then(blob) {
                    self.message(channel, payload);
                }
            }
            "ssubscribe" => self.confirmed(channel),
            "sunsubscribe" => self.ended(channel),
            _ => {}
        }
    }

    fn message(&self, channel: &str, payload: &Bytes) {
        let Some(topic) = self.hearing.names.topic_of(channel) else {
            return;
        };
        let key = {
            let wanted = self.hearing.wanted();
            let partition = self.hearing.names.partition_of(topic);
            // What is on its way when a subscription ends is not wanted any more.
            wanted.find(topic, partition).map(|(key, _)| key.clone())
        };
        let Some(key) = key else { return };
        match read_message(key, payload) {
            Some(message) => {
                if !self.hearing.events.message(Arc::new(message)) {
                    self.hearing.metrics.dropped.inc();
                }
            }
            None => {
                self.hearing.metrics.unreadable.inc();
            }
        }
    }

    fn confirmed(&mut self, channel: &str) {
        if let Some(topic) = self.hearing.names.topic_of(channel)
            && !self.leaving.contains_key(topic)
        {
            let partition = self.hearing.names.partition_of(topic);
            self.hearing.wanted().confirm(topic, partition, self.serial);
        }
        if let Some(Written::Subscribe { missing, .. }) = self.written.front_mut() {
            self.asked = Instant::now();
            *missing = missing.saturating_sub(1);
            self.unconfirmed = self.unconfirmed.saturating_sub(1);
            if *missing == 0 {
                self.written.pop_front();
            }
        }
    }

    /// A subscription ended: because it was asked for, or because its slot moved away.
    fn ended(&mut self, channel: &str) {
        let Some(topic) = self.hearing.names.topic_of(channel) else {
            // The probe's slot moved. Another partition is here, or none and this connection of no use.
            self.probing = None;
            return;
        };
        // Redis answers in order: an answer to what is not the oldest question is none, but the news that the slot moved.
        if matches!(self.written.front(), Some(Written::Unsubscribe(key)) if key.as_str() == topic) {
            self.written.pop_front();
            self.left(topic);
            return;
        }
        if self.leaving.contains_key(topic) {
            // Nobody wants it, or it is asked for again behind the end that was asked for.
            return;
        }
        let partition = self.hearing.names.partition_of(topic);
        let mut wanted = self.hearing.wanted();
        let heard_here = |stand| matches!(stand, Stand::Confirmed(serial) if serial == self.serial);
        let moved = wanted
            .find(topic, partition)
            .filter(|(_, stand)| heard_here(*stand));
        if let Some(key) = moved.map(|(key, _)| key.clone()) {
            wanted.set(&key, Stand::Nowhere);
            drop(wanted);
            self.hearing.metrics.moved.inc();
            self.hearing.unsettle();
        }
    }

    /// An end that was asked for has been answered.
    fn left(&mut self, topic: &str) {
        if let Some(times) = self.leaving.get_mut(topic) {
            *times -= 1;
            if *times == 0 {
                self.leaving.remove(topic);
            }
        }
    }

    /// Redis refused the oldest command that is not answered.
    fn refused(&mut self, refusal: &Refusal) {
        match self.written.pop_front() {
            Some(Written::Subscribe { keys, missing }) => {
                self.unconfirmed = self.unconfirmed.saturating_sub(missing);
                if keys.is_empty() {
                    self.probing = None;
                }
                let mut wanted = self.hearing.wanted();
                for key in &keys {
                    wanted.set(key, Stand::Nowhere);
                }
                drop(wanted);
                if let Refusal::Refused(reason) = refusal {
                    self.hearing.refused(self.place, reason);
                }
                self.hearing.unsettle();
            }
            Some(Written::Unsubscribe(key)) => self.left(key.as_str()),
            None => {}
        }
    }
}

/// `epoch:offset`, or nothing where there is no history, then a space and the envelope.
fn read_message(key: TopicKey, payload: &Bytes) -> Option<Message> {
    let space = payload.iter().take(64).position(|byte| *byte == b' ')?;
    let (header, body) = decode_envelope(&payload.slice(space + 1..)).ok()?;
    let position = if space == 0 {
        None
    } else {
        let (epoch, offset) = std::str::from_utf8(&payload[..space]).ok()?.split_once(':')?;
        Some(Position {
            epoch: u64::from_str_radix(epoch, 16).ok()?,
            offset: offset.parse().ok()?,
            check: header.id.check(),
        })
    };
    Some(Message {
        key,
        position,
        header,
        payload: body,
    })
}
