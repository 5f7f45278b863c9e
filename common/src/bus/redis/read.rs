//! Heads, history, and new epochs: script calls and what they answer.

use std::sync::Arc;

use redis_protocol::resp3::types::BytesFrame;

use super::{
    names::Names,
    router::Item,
    scripts::{self, call},
    wire::{Commands, blob, list, number, text},
};
use crate::{
    bus::{BusLimits, Head, History},
    message::{Message, Position, decode_envelope},
    policy::{HistoryPolicy, Policies},
    topic::TopicKey,
};

/// An epoch that nobody has had: 40 random bits, as hexadecimal digits, which keep positions short.
pub(super) fn random_epoch() -> String {
    format!("{:x}", fastrand::u64(1..1 << 40))
}

/// Topics of one script call.
const HEADS: usize = 256;

/// The calls for the ends of topics, and for each the places of its topics among those asked for.
pub(super) fn heads(names: &Names, keys: &[TopicKey], limits: &BusLimits) -> Vec<(Item, Vec<usize>)> {
    let mut places: Vec<(usize, usize)> = keys
        .iter()
        .enumerate()
        .map(|(place, key)| (names.partition(key), place))
        .collect();
    places.sort_unstable();
    let (epoch, meta_age) = (random_epoch(), limits.meta_age.as_millis().to_string());
    let mut items = Vec::new();
    for partition in places.chunk_by(|first, second| first.0 == second.0) {
        for some in partition.chunks(HEADS) {
            let number = some[0].0;
            let mut all = vec![names.epoch(number)];
            all.extend(some.iter().map(|(_, place)| names.meta(number, &keys[*place])));
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let mut command = Commands::default();
            call(
                &mut command,
                &scripts::HEADS,
                &all,
                &[epoch.as_bytes(), meta_age.as_bytes()],
            );
            let item = Item {
                partition: number,
                command,
            };
            items.push((item, some.iter().map(|(_, place)| *place).collect()));
        }
    }
    items
}

/// The heads in an answer of [`heads`], or of [`renew`].
pub(super) fn read_heads(reply: &BytesFrame) -> Option<Vec<Head>> {
    list(reply)?.chunks(3).map(head).collect()
}

fn head(parts: &[BytesFrame]) -> Option<Head> {
    Some(Head {
        epoch: u64::from_str_radix(text(parts.first()?)?, 16).ok()?,
        offset: number(parts.get(1)?)?,
        id: text(parts.get(2)?)?.parse().ok(),
    })
}

/// The call for what can be read again of a topic.
pub(super) fn history(names: &Names, key: &TopicKey, after: u64, limit: usize) -> Item {
    let partition = names.partition(key);
    let (begin, meta) = (names.epoch(partition), names.meta(partition, key));
    let stream = names.history(partition, key);
    let (after, limit, epoch) = (after.to_string(), limit.to_string(), random_epoch());
    let mut command = Commands::default();
    call(
        &mut command,
        &scripts::HISTORY,
        &[&begin, &meta, &stream],
        &[after.as_bytes(), limit.as_bytes(), epoch.as_bytes()],
    );
    Item { partition, command }
}

/// What one call read.
pub(super) struct Part {
    pub(super) history: History,
    /// The last offset that was read, where there may be more behind it and something was left out for its age.
    pub(super) last: Option<u64>,
}

/// The history in an answer of [`history`]. What is past its age is not given, although Redis forgets a topic's history
/// only as a whole.
pub(super) fn read_history(
    reply: &BytesFrame,
    key: &TopicKey,
    policies: &Policies,
    limits: &BusLimits,
) -> Option<Part> {
    let parts = list(reply)?;
    let head = head(parts)?;
    let policy = policies.of(key);
    let values = policy.history == HistoryPolicy::LastValue;
    let mut lost = number(parts.get(3)?)?;
    let age = policies
        .bounds(policy)
        .age
        .or_else(|| (!values).then_some(limits.age));
    let now = number(parts.get(5)?)?;
    let oldest = age.map(|age| now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    let mut messages = Vec::new();
    let mut aged = false;
    let mut end = 0;
    for entry in list(parts.get(4)?)? {
        let Some((offset, at, message)) = read_entry(entry, key, head.epoch) else {
            continue;
        };
        end = offset;
        if oldest.is_some_and(|oldest| at < oldest) {
            lost = lost.max(offset);
            aged = true;
        } else {
            messages.push(Arc::new(message));
        }
    }
    Some(Part {
        last: (aged && end < head.offset).then_some(end),
        history: History {
            head,
            messages,
            superseded_after: values.then_some(lost),
        },
    })
}

/// An entry of the stream, `offset-0`: the envelope as its first field, when it was written as its third.
fn read_entry(entry: &BytesFrame, key: &TopicKey, epoch: u64) -> Option<(u64, u64, Message)> {
    let [id, fields] = list(entry)? else { return None };
    let offset = text(id)?.split('-').next()?.parse().ok()?;
    let fields = list(fields)?;
    let (header, payload) = decode_envelope(blob(fields.get(1)?)?).ok()?;
    let position = Position {
        epoch,
        offset,
        check: header.id.check(),
    };
    let message = Message {
        key: key.clone(),
        position: Some(position),
        header,
        payload,
    };
    Some((offset, number(fields.get(5)?)?, message))
}

/// The call for a new epoch.
pub(super) fn renew(names: &Names, key: &TopicKey, old: Head, limits: &BusLimits) -> Item {
    let partition = names.partition(key);
    let (begin, meta) = (names.epoch(partition), names.meta(partition, key));
    let (stream, values) = (names.history(partition, key), names.values(partition, key));
    let (epoch, least, new) = (format!("{:x}", old.epoch), old.offset.to_string(), random_epoch());
    let id = old.id.map_or_else(String::new, |id| id.to_string());
    let meta_age = limits.meta_age.as_millis().to_string();
    let mut command = Commands::default();
    call(
        &mut command,
        &scripts::RENEW,
        &[&begin, &meta, &stream, &values],
        &[
            epoch.as_bytes(),
            least.as_bytes(),
            new.as_bytes(),
            meta_age.as_bytes(),
            id.as_bytes(),
        ],
    );
    Item { partition, command }
}
