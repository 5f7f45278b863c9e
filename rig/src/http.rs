//! As much of HTTP as it takes to ask a server whether it is ready.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::Error;

/// Longest answer that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its code.
    pub status: u16,
    /// Its body, as it came: of a chunked one with the chunks' lengths.
    pub body: String,
}

/// GET over a connection of its own; `within` holds for connecting and for each read and write.
///
/// # Errors
/// [`Error::System`] where no answer comes, or none that is HTTP.
pub fn get(address: SocketAddr, path: &str, within: Duration) -> Result<Answer, Error> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, within)?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        stream.take(LIMIT).read_to_end(&mut bytes)?;
        parse(&String::from_utf8_lossy(&bytes))
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "not an answer of HTTP"))
    };
    ask().map_err(Error::system(format!("asking {address} for {path}")))
}

/// Status line (RFC 9112, section 4), fields that nobody needs here, body.
fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some(Answer {
        status: status.parse().ok()?,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let answer = parse("HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\r\nbus").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "bus"));
        assert_eq!(parse("HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(parse("SSH-2.0-x\r\n\r\n"), None);
    }
}
