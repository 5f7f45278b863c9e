//! The mark that every message of a run carries, so that it is known wherever it turns up: `@run.topic.number.time@`, in
//! hexadecimal digits of fixed width, found by its first bytes in whatever a server wraps around it.

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

/// Bytes of a stamp.
pub(crate) const STAMP: usize = 43;

/// What a message is sent to: a kind in the upper eight bits, a number in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Topic(u32);

/// Kinds of topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everyone who is connected.
    All,
    User,
    Role,
    Store,
    /// One that sockets subscribe to.
    Explicit,
}

const INDEX: u32 = 0x00ff_ffff;

impl Topic {
    pub(crate) const ALL: Self = Self(0);

    pub(crate) const fn user(number: u32) -> Self {
        Self(1 << 24 | number & INDEX)
    }

    pub(crate) const fn role(number: u32) -> Self {
        Self(2 << 24 | number & INDEX)
    }

    pub(crate) const fn store(number: u32) -> Self {
        Self(3 << 24 | number & INDEX)
    }

    pub(crate) const fn explicit(number: u32) -> Self {
        Self(4 << 24 | number & INDEX)
    }

    pub(crate) const fn kind(self) -> Kind {
        match self.0 >> 24 {
            0 => Kind::All,
            1 => Kind::User,
            2 => Kind::Role,
            3 => Kind::Store,
            _ => Kind::Explicit,
        }
    }

    pub(crate) const fn number(self) -> u32 {
        self.0 & INDEX
    }

    /// The name that `carillon.v1` gives it in frames.
    pub(crate) fn label(self) -> String {
        match self.kind() {
            Kind::All => "tenant".to_owned(),
            Kind::User => "user".to_owned(),
            Kind::Role => format!("role:r{}", self.number()),
            Kind::Store => format!("store:s{}", self.number()),
            Kind::Explicit => format!("topic:t{}", self.number()),
        }
    }

    /// The topic with that name on a session of `user`; none where this run does not publish to it.
    pub(crate) fn from_label(label: &str, user: u32) -> Option<Self> {
        let number = |prefix: &str| label.strip_prefix(prefix)?.parse().ok();
        match label {
            "tenant" => Some(Self::ALL),
            "user" => Some(Self::user(user)),
            _ => number("role:r")
                .map(Self::role)
                .or_else(|| number("store:s").map(Self::store))
                .or_else(|| number("topic:t").map(Self::explicit)),
        }
    }
}

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) topic: Topic,
    /// From 1, without holes, by topic.
    pub(crate) number: u32,
    /// When it should have been sent, Unix microseconds.
    pub(crate) at_us: u64,
}

impl Stamp {
    /// Appends it.
    pub(crate) fn write(self, run: u32, out: &mut String) {
        out.push('@');
        hex(u64::from(run), 8, out);
        out.push('.');
        hex(u64::from(self.topic.0), 8, out);
        out.push('.');
        hex(u64::from(self.number), 8, out);
        out.push('.');
        hex(self.at_us, 14, out);
        out.push('@');
    }
}

fn hex(value: u64, digits: u32, out: &mut String) {
    for digit in (0..digits).rev() {
        out.push(char::from(
            b"0123456789abcdef"[(value >> (4 * digit) & 15) as usize],
        ));
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// Finds the stamps of one run.
#[derive(Debug)]
pub(crate) struct Stamps {
    begin: Vec<u8>,
    finder: Finder<'static>,
    /// Where the last one was: a server wraps all messages alike.
    hint: usize,
}

impl Stamps {
    pub(crate) fn new(run: u32) -> Self {
        let mut begin = "@".to_owned();
        hex(u64::from(run), 8, &mut begin);
        begin.push('.');
        let begin = begin.into_bytes();
        Self {
            finder: Finder::new(&begin).into_owned(),
            begin,
            hint: 0,
        }
    }

    /// The first stamp at or behind `from`, and where it ends.
    pub(crate) fn next(&mut self, message: &[u8], from: usize) -> Option<(Stamp, usize)> {
        let hinted = from + self.hint;
        let at = match message.get(hinted..hinted + self.begin.len()) {
            Some(begin) if begin == self.begin => hinted,
            _ => {
                let at = from + self.finder.find(message.get(from..)?)?;
                self.hint = at - from;
                at
            }
        };
        let end = at + STAMP;
        let text = message.get(at..end)?;
        let stamp = Stamp {
            topic: Topic(u32::try_from(number(&text[10..18])?).ok()?),
            number: u32::try_from(number(&text[19..27])?).ok()?,
            at_us: number(&text[28..42])?,
        };
        Some((stamp, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(topic: Topic, number: u32) -> Stamp {
        Stamp {
            topic,
            number,
            at_us: 1_763_640_000_123_456,
        }
    }

    #[test]
    fn what_is_written_is_found_in_any_wrapping() {
        let (one, two) = (stamp(Topic::ALL, 1), stamp(Topic::user(9999), 70_000));
        let mut text = "42[\"m\",\"".to_owned();
        one.write(0xabc, &mut text);
        text.push_str("xyz");
        text.push_str("\"]MSG ws 1 60\r\n");
        two.write(0xabc, &mut text);
        let mut stamps = Stamps::new(0xabc);
        let (first, end) = stamps.next(text.as_bytes(), 0).unwrap();
        assert_eq!(first, one);
        let (second, end) = stamps.next(text.as_bytes(), end).unwrap();
        assert_eq!((second, end), (two, text.len()));
        assert!(stamps.next(text.as_bytes(), end).is_none());
        assert!(
            Stamps::new(0xabd).next(text.as_bytes(), 0).is_none(),
            "another run"
        );
        assert!(
            stamps.next(&text.as_bytes()[..40], 0).is_none(),
            "a stamp that is cut is none"
        );
    }

    #[test]
    fn labels_are_those_of_the_protocol() {
        for topic in [
            Topic::ALL,
            Topic::user(7),
            Topic::role(3),
            Topic::store(99),
            Topic::explicit(199),
        ] {
            assert_eq!(Topic::from_label(&topic.label(), 7), Some(topic));
        }
        assert_eq!(Topic::from_label("everyone", 7), None);
    }
}
