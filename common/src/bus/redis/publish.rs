//! Publications as script calls, and their results.

use sha2::{Digest, Sha256};

use super::{
    names::Names,
    read::random_epoch,
    router::{Item, odd},
    scripts::{self, call},
    wire::{Commands, list, number, text},
};
use crate::{
    bus::{BusError, BusLimits, Publication, Published},
    message::{Position, encode_envelope},
    policy::{HistoryPolicy, Policies},
};
use redis_protocol::resp3::types::BytesFrame;

/// What every publish needs to know.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) limits: BusLimits,
    pub(super) policies: Policies,
}

/// A publish on its way.
pub(super) struct Sent {
    pub(super) item: Item,
    pub(super) expected: Expected,
}

/// What has to be known of a publish to read its reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// The check of its own id.
    check: u32,
    /// It takes an offset.
    offset: bool,
    /// It is `SPUBLISH` alone.
    plain: bool,
}

impl Publisher {
    pub(super) fn encode(&self, names: &Names, publication: &Publication) -> Sent {
        let Publication {
            key,
            header,
            payload,
            history,
            idempotency_key,
        } = publication;
        let partition = names.partition(key);
        let envelope = encode_envelope(header, payload);
        let channel = names.channel(partition, key);
        let policy = self.policies.of(key);
        let kept = if *history {
            policy.history
        } else {
            HistoryPolicy::None
        };
        let check = header.id.check();
        let mut command = Commands::default();
        let result = idempotency_key
            .as_deref()
            .map(|key_of_caller| names.result(partition, key, &print(key_of_caller)));
        let key_age = match result {
            Some(_) => self.limits.key_age.as_millis().to_string(),
            None => "0".to_owned(),
        };
        let (mut offset, mut plain) = (true, false);
        match (kept, &result) {
            (HistoryPolicy::None, None) => {
                (offset, plain) = (false, true);
                // What stands before the space is the position.
                let message = [b" ", &envelope[..]].concat();
                command.push(&[b"SPUBLISH", channel.as_bytes(), &message]);
            }
            (HistoryPolicy::None, Some(result)) => {
                offset = false;
                call(
                    &mut command,
                    &scripts::KEYED,
                    &[&channel, result],
                    &[&envelope, key_age.as_bytes()],
                );
            }
            (HistoryPolicy::Window | HistoryPolicy::LastValue, _) => {
                let own = self.policies.bounds(policy);
                let values = kept == HistoryPolicy::LastValue;
                let age = own.age.or_else(|| (!values).then_some(self.limits.age));
                let age_ms = age.map_or(0, |age| age.as_millis().max(1));
                // Times are renewed once in a tenth of the age, or a day where there is none.
                let tenth = if age_ms == 0 {
                    86_400_000
                } else {
                    (age_ms / 10).max(1)
                };
                let count = own.count.unwrap_or(self.limits.count).max(1).to_string();
                let bytes = own.bytes.unwrap_or(self.limits.bytes).to_string();
                let id = header.id.to_string();
                let epoch = random_epoch();
                let (age, meta_age) = (age_ms.to_string(), self.limits.meta_age.as_millis().to_string());
                let letter = if values { 'v' } else { 'w' };
                let time = format!(
                    "{letter}{}",
                    u128::try_from(header.at).unwrap_or_default() / tenth
                );
                let check = check.to_string();
                let mut arguments: Vec<&[u8]> = vec![
                    &envelope,
                    id.as_bytes(),
                    epoch.as_bytes(),
                    count.as_bytes(),
                    bytes.as_bytes(),
                    age.as_bytes(),
                    meta_age.as_bytes(),
                    time.as_bytes(),
                    key_age.as_bytes(),
                    check.as_bytes(),
                ];
                let (begin, meta) = (names.epoch(partition), names.meta(partition, key));
                let stream = names.history(partition, key);
                // Without a key the place of its result is never looked at.
                let result = result.as_deref().unwrap_or(&meta);
                let mut keys: Vec<&str> = vec![&begin, &meta, &stream, &channel, result];
                let place;
                if values {
                    place = names.values(partition, key);
                    keys.push(&place);
                    arguments.push(header.conflate.as_deref().unwrap_or_default().as_bytes());
                    call(&mut command, &scripts::VALUES, &keys, &arguments);
                } else {
                    call(&mut command, &scripts::WINDOW, &keys, &arguments);
                }
            }
        }
        Sent {
            item: Item { partition, command },
            expected: Expected { check, offset, plain },
        }
    }
}

impl Expected {
    /// What became of it, by what Redis said.
    pub(super) fn read(self, reply: &BytesFrame) -> Result<Published, BusError> {
        if self.plain {
            let nodes = number(reply).ok_or_else(odd)?;
            return Ok(Published {
                position: None,
                nodes: usize::try_from(nodes).unwrap_or(usize::MAX),
                repeated: false,
            });
        }
        let parts = list(reply).ok_or_else(odd)?;
        let field = |place: usize| parts.get(place);
        let repeated = field(0).and_then(number) == Some(1);
        let nodes = field(3).and_then(number).ok_or_else(odd)?;
        let position = if self.offset {
            let epoch = field(1)
                .and_then(text)
                .and_then(|epoch| u64::from_str_radix(epoch, 16).ok());
            let first = field(4)
                .and_then(number)
                .and_then(|first| u32::try_from(first).ok());
            Some(Position {
                epoch: epoch.ok_or_else(odd)?,
                offset: field(2).and_then(number).ok_or_else(odd)?,
                check: first.unwrap_or(self.check),
            })
        } else {
            None
        };
        Ok(Published {
            position,
            nodes: usize::try_from(nodes).unwrap_or(usize::MAX),
            repeated,
        })
    }
}

/// What stands for a caller's key: half of its SHA-256. Callers choose keys, and no two of them may be found that meet.
fn print(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    digest
        .iter()
        .take(16)
        .fold(String::with_capacity(32), |mut text, byte| {
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}
