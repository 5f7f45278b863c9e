//! A small client for administration: PostgreSQL's protocol 3.0 (its manual, chapter 55), simple queries only.

use std::{
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::Error;

/// Protocol 3.0.
const VERSION: u32 = 3 << 16;
/// Longest message read: an answer beyond it is nothing that one administrates.
const LONGEST: usize = 16 << 20;

/// Values in the text that PostgreSQL writes for them; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// An open, logged-in connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    at: SocketAddr,
}

impl Connection {
    /// Connects and logs in, by a password in clear; `within` holds for each step, and later for each answer.
    ///
    /// # Errors
    /// [`Error::System`] where nobody answers, [`Error::Postgres`] where the server refuses.
    pub fn open(
        at: SocketAddr,
        role: &str,
        password: &str,
        database: &str,
        within: Duration,
    ) -> Result<Self, Error> {
        let failed = || Error::system(format!("connecting to postgres at {at}"));
        let stream = TcpStream::connect_timeout(&at, within).map_err(failed())?;
        stream.set_nodelay(true).map_err(failed())?;
        stream.set_read_timeout(Some(within)).map_err(failed())?;
        stream.set_write_timeout(Some(within)).map_err(failed())?;
        let mut connection = Self {
            stream: BufReader::new(stream),
            at,
        };
        let mut start = VERSION.to_be_bytes().to_vec();
        for word in ["user", role, "database", database, "application_name", "rig"] {
            start.extend_from_slice(word.as_bytes());
            start.push(0);
        }
        start.push(0);
        connection.send(None, &start)?;
        connection.log_in(password)?;
        Ok(connection)
    }

    /// Runs one command, or several with `;` between them in one transaction, and gives all rows.
    ///
    /// # Errors
    /// [`Error::Postgres`] where it refuses, [`Error::System`] where no answer comes; then the connection is of no use any
    /// more.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        let mut text = sql.as_bytes().to_vec();
        text.push(0);
        self.send(Some(b'Q'), &text)?;
        let (mut rows, mut refusal) = (Vec::new(), None);
        loop {
            match self.receive()? {
                (b'D', body) => rows.push(row(&body).ok_or_else(|| self.garbled())?),
                (b'E', body) => refusal = Some(self.refusal(&body)),
                // Ready for the next one.
                (b'Z', _) => return refusal.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// The first value of the first row; `None` where there is none or it is NULL.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn value(&mut self, sql: &str) -> Result<Option<String>, Error> {
        let rows = self.query(sql)?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .flatten())
    }

    fn log_in(&mut self, password: &str) -> Result<(), Error> {
        loop {
            match self.receive()? {
                (b'R', body) => match body.get(..4) {
                    Some([0, 0, 0, 0]) => {}
                    Some([0, 0, 0, 3]) => {
                        let mut text = password.as_bytes().to_vec();
                        text.push(0);
                        self.send(Some(b'p'), &text)?;
                    }
                    _ => {
                        let text = format!("postgres at {} asks for a login other than by password", self.at);
                        return Err(Error::Unfit(text));
                    }
                },
                (b'E', body) => return Err(self.refusal(&body)),
                (b'Z', _) => return Ok(()),
                _ => {}
            }
        }
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Result<(), Error> {
        let length =
            u32::try_from(body.len() + 4).map_err(|_| Error::Unfit("a query is too long".to_owned()))?;
        let mut message = Vec::with_capacity(body.len() + 5);
        message.extend(kind);
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        let sent = self.stream.get_mut().write_all(&message);
        sent.map_err(Error::system(format!("asking postgres at {}", self.at)))
    }

    /// The next message: its kind and what is in it.
    fn receive(&mut self) -> Result<(u8, Vec<u8>), Error> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let length = length.checked_sub(4).filter(|length| *length <= LONGEST);
        let mut body = vec![0; length.ok_or_else(|| self.garbled())?];
        self.fill(&mut body)?;
        Ok((kind, body))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let read = self.stream.read_exact(buffer);
        read.map_err(Error::system(format!("waiting for postgres at {}", self.at)))
    }

    fn refusal(&self, body: &[u8]) -> Error {
        let field = |kind: u8| {
            let mut fields = body.split(|byte| *byte == 0);
            let found = fields.find_map(|field| field.strip_prefix(&[kind]));
            String::from_utf8_lossy(found.unwrap_or_default()).into_owned()
        };
        Error::Postgres {
            at: self.at,
            code: field(b'C'),
            text: field(b'M'),
        }
    }

    fn garbled(&self) -> Error {
        Error::Unfit(format!("what answers at {} is no postgres", self.at))
    }
}

/// The values of a `DataRow`.
fn row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk()?;
        // -1 stands for NULL.
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            rest = behind;
            values.push(None);
            continue;
        };
        let (value, behind) = behind.split_at_checked(length)?;
        values.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = behind;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_with_its_nulls() {
        let body = [&[0, 3][..], &[0, 0, 0, 2], b"ab", &[255; 4], &[0; 4]].concat();
        assert_eq!(
            row(&body),
            Some(vec![Some("ab".to_owned()), None, Some(String::new())])
        );
        for end in 0..body.len() {
            assert_eq!(row(&body[..end]), None, "{end}");
        }
    }
}
