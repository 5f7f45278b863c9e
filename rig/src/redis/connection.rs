//! A blocking client for administration: RESP2, one command at a time.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::Error;

/// Longest answer that is read, in bytes and in elements.
const LIMIT: usize = 64 << 20;
/// How deep answers may be nested.
const DEPTH: usize = 16;

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Integer(i64),
    /// A status or a value.
    Text(Vec<u8>),
    /// Several.
    List(Vec<Self>),
    /// An error inside a list; one that is the whole answer is [`Error::Redis`].
    Error(String),
}

/// A connection. After a failure of the transport it is of no more use.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Connection {
    /// Connects; `within` holds for connecting and for each later read and write.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn open(address: SocketAddr, within: Duration) -> Result<Self, Error> {
        let open = || {
            let stream = TcpStream::connect_timeout(&address, within)?;
            stream.set_read_timeout(Some(within))?;
            stream.set_write_timeout(Some(within))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = open().map_err(Error::system(format!("connecting to {address}")))?;
        Ok(Self {
            stream: BufReader::new(stream),
            address,
        })
    }

    /// One command and its answer.
    ///
    /// # Errors
    /// [`Error::Redis`] where Redis refuses, [`Error::System`] where no answer comes.
    pub fn call(&mut self, words: &[impl AsRef<[u8]>]) -> Result<Reply, Error> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        let sent = self.stream.get_mut().write_all(&bytes);
        sent.map_err(|error| self.lost(error))?;
        match self.reply(0)? {
            Reply::Error(text) => Err(Error::Redis {
                at: self.address,
                command: words
                    .iter()
                    .take(2)
                    .map(|word| String::from_utf8_lossy(word.as_ref()))
                    .collect::<Vec<_>>()
                    .join(" "),
                text,
            }),
            reply => Ok(reply),
        }
    }

    fn reply(&mut self, depth: usize) -> Result<Reply, Error> {
        if depth > DEPTH {
            return Err(self.garbled("an answer nested too deeply"));
        }
        let line = self.line()?;
        let (Some(kind), Some(rest)) = (line.chars().next(), line.get(1..)) else {
            return Err(self.garbled("an empty line"));
        };
        if let '+' | '-' = kind {
            return Ok(match kind {
                '+' => Reply::Text(rest.as_bytes().to_vec()),
                _ => Reply::Error(rest.to_owned()),
            });
        }
        let number: i64 = rest.parse().map_err(|_| self.garbled("no number"))?;
        let length = usize::try_from(number).ok().filter(|length| *length <= LIMIT);
        match (kind, length) {
            (':', _) => Ok(Reply::Integer(number)),
            ('$' | '*', None) if number == -1 => Ok(Reply::Nil),
            ('$', Some(length)) => {
                let mut text = vec![0; length + 2];
                let read = self.stream.read_exact(&mut text);
                read.map_err(|error| self.lost(error))?;
                text.truncate(length);
                Ok(Reply::Text(text))
            }
            ('*', Some(length)) => (0..length)
                .map(|_| self.reply(depth + 1))
                .collect::<Result<_, _>>()
                .map(Reply::List),
            _ => Err(self.garbled("not RESP2")),
        }
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        let read = read.map_err(|error| self.lost(error))?;
        if read == 0 {
            return Err(self.lost(std::io::ErrorKind::UnexpectedEof.into()));
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    fn lost(&self, source: std::io::Error) -> Error {
        Error::System {
            doing: format!("asking redis at {}", self.address),
            source,
        }
    }

    fn garbled(&self, what: &str) -> Error {
        self.lost(std::io::Error::new(std::io::ErrorKind::InvalidData, what))
    }
}

impl Reply {
    /// The text, where it is one and UTF-8; else empty.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => std::str::from_utf8(text).unwrap_or_default(),
            Self::Error(text) => text,
            _ => "",
        }
    }

    /// The bytes of a text.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements; of anything but a list, none.
    #[must_use]
    pub fn as_list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }

    /// The number, also where it came as text.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            text => text.as_str().parse().ok(),
        }
    }

    /// The value of a `name:value` line, as INFO and CLUSTER INFO answer them.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.as_str().lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    }
}
