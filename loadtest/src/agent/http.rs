//! Answers of an HTTP/1.1 server, cut out of a byte stream.

use memchr::memmem;

/// Largest answer that is believed, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Whether the server closes the connection behind it.
    pub(super) last: bool,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadAnswer(pub(super) &'static str);

/// The first answer in `bytes`, and how long it is; none while it is not whole. The body is taken only where `wanted`
/// says so of the status.
pub(super) fn answer(
    bytes: &[u8],
    wanted: impl Fn(u16) -> bool,
) -> Result<Option<(Answer, usize)>, BadAnswer> {
    if bytes.len() > MAX_ANSWER {
        return Err(BadAnswer("an endless answer"));
    }
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &bytes[..end];
    let status = status(head).ok_or(BadAnswer("no HTTP answer"))?;
    let begin = end + 4;
    let last = header(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let keep = wanted(status);
    let (body, used) = if header(head, "transfer-encoding").is_some() {
        let Some((body, used)) = chunked(&bytes[begin..])? else {
            return Ok(None);
        };
        (if keep { body } else { Vec::new() }, begin + used)
    } else {
        let len = match header(head, "content-length") {
            Some(len) => len.parse().map_err(|_| BadAnswer("a length that is no number"))?,
            None => 0,
        };
        let Some(body) = bytes.get(begin..begin + len) else {
            return Ok(None);
        };
        (if keep { body.to_vec() } else { Vec::new() }, begin + len)
    };
    Ok(Some((Answer { status, body, last }, used)))
}

/// The status of a head.
pub(super) fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

/// The value of a header, by its name in lower case.
pub(super) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (key, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        if !key.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        std::str::from_utf8(value).ok().map(str::trim)
    })
}

fn chunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, BadAnswer> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = memmem::find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&bytes[at..at + line]).unwrap_or_default();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| BadAnswer("a chunk without size"))?;
        let begin = at + line + 2;
        let Some(chunk) = bytes.get(begin..begin + size + 2) else {
            return Ok(None);
        };
        at = begin + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_cut_out_one_by_one() {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 204 No\r\nConnection: close\r\n\r\n";
        let mut at = 0;
        let mut seen = Vec::new();
        while let Some((answer, used)) = answer(&stream[at..], |_| true).unwrap() {
            at += used;
            seen.push((
                answer.status,
                String::from_utf8(answer.body).unwrap(),
                answer.last,
            ));
        }
        assert_eq!(at, stream.len());
        assert_eq!(
            seen,
            [
                (200, "ok".to_owned(), false),
                (503, "abc".to_owned(), false),
                (204, String::new(), true)
            ]
        );
        for cut in 0..40 {
            assert_eq!(answer(&stream[..cut], |_| true), Ok(None), "{cut} bytes");
        }
        assert!(answer(b"nonsense\r\n\r\n", |_| true).is_err());
    }
}
