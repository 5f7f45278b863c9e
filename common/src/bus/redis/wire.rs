//! Commands as bytes, and what Redis says to them.

use bytes::Bytes;
use redis_protocol::resp3::types::BytesFrame;

/// Commands that go to a server together, as they are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    count: usize,
}

impl Commands {
    /// Adds a command.
    pub(super) fn push(&mut self, arguments: &[&[u8]]) {
        let mut number = itoa(arguments.len() as u64);
        self.bytes.push(b'*');
        self.bytes.extend_from_slice(number.as_bytes());
        for argument in arguments {
            number = itoa(argument.len() as u64);
            self.bytes.extend_from_slice(b"\r\n$");
            self.bytes.extend_from_slice(number.as_bytes());
            self.bytes.extend_from_slice(b"\r\n");
            self.bytes.extend_from_slice(argument);
        }
        self.bytes.extend_from_slice(b"\r\n");
        self.count += 1;
    }

    /// Adds all of another list.
    pub(super) fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    /// How many, which is as many as there will be replies.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn itoa(number: u64) -> String {
    number.to_string()
}

/// An error that Redis answered with, by what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The slot belongs to another server, or this one is no primary any more: nothing was done.
    Elsewhere,
    /// The key is on its way to the server named here: nothing was done, and it may be asked there.
    Ask(String),
    /// Nothing was done, and it may be done in a moment: the server loads, lacks replicas, moves keys.
    NotNow(String),
    /// The server does not know the script.
    NoScript,
    /// Anything else, such as a full memory or a missing right.
    Refused(String),
}

impl Refusal {
    /// Reads an error's text. An error from inside a script carries the original text first.
    pub(super) fn of(text: &str) -> Self {
        let code = text.split(' ').next().unwrap_or_default();
        match code {
            "MOVED" | "READONLY" | "UNBLOCKED" => Self::Elsewhere,
            "ASK" => Self::Ask(text.split(' ').nth(2).unwrap_or_default().to_owned()),
            "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "NOREPLICAS" | "BUSY" => {
                Self::NotNow(shortened(text))
            }
            "NOSCRIPT" => Self::NoScript,
            _ => Self::Refused(shortened(text)),
        }
    }

    /// Of a reply that is an error.
    pub(super) fn in_reply(reply: &BytesFrame) -> Option<Self> {
        match reply {
            BytesFrame::SimpleError { data, .. } => Some(Self::of(data)),
            BytesFrame::BlobError { data, .. } => Some(Self::of(&String::from_utf8_lossy(data))),
            _ => None,
        }
    }
}

/// Errors of scripts end with a piece of the script.
fn shortened(text: &str) -> String {
    text.chars().take(160).collect()
}

/// The text of a reply.
pub(super) fn text(reply: &BytesFrame) -> Option<&str> {
    match reply {
        BytesFrame::BlobString { data, .. } | BytesFrame::SimpleString { data, .. } => {
            std::str::from_utf8(data).ok()
        }
        BytesFrame::VerbatimString { data, .. } => std::str::from_utf8(data).ok(),
        _ => None,
    }
}

/// The bytes of a reply.
pub(super) fn blob(reply: &BytesFrame) -> Option<&Bytes> {
    match reply {
        BytesFrame::BlobString { data, .. } | BytesFrame::SimpleString { data, .. } => Some(data),
        _ => None,
    }
}

/// The number of a reply, also where it came as text.
pub(super) fn number(reply: &BytesFrame) -> Option<u64> {
    match reply {
        BytesFrame::Number { data, .. } => u64::try_from(*data).ok(),
        _ => text(reply)?.parse().ok(),
    }
}

/// The elements of a list.
pub(super) fn list(reply: &BytesFrame) -> Option<&[BytesFrame]> {
    match reply {
        BytesFrame::Array { data, .. } | BytesFrame::Push { data, .. } => Some(data),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut commands = Commands::default();
        commands.push(&[b"SET", b"a", b"\r\n"]);
        assert_eq!(commands.bytes(), b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n");
        let mut both = commands.clone();
        both.append(&commands);
        assert_eq!(both.count(), 2);
    }

    #[test]
    fn errors_say_what_to_do() {
        for (text, refusal) in [
            ("MOVED 3999 127.0.0.1:6381", Refusal::Elsewhere),
            (
                "READONLY You can't write against a read only replica.",
                Refusal::Elsewhere,
            ),
            (
                "ASK 3999 127.0.0.1:6381",
                Refusal::Ask("127.0.0.1:6381".to_owned()),
            ),
            ("NOSCRIPT No matching script.", Refusal::NoScript),
            (
                "TRYAGAIN Multiple keys",
                Refusal::NotNow("TRYAGAIN Multiple keys".to_owned()),
            ),
            (
                "OOM command not allowed",
                Refusal::Refused("OOM command not allowed".to_owned()),
            ),
        ] {
            assert_eq!(Refusal::of(text), refusal);
        }
    }
}
