//! Lines of an upload, without holding more than one of them.

/// One line, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Text(&'a [u8]),
    /// Longer than the limit; it was read over.
    TooLong,
}

/// Cuts chunks into lines. A line within one chunk is not copied.
#[derive(Debug)]
pub(super) struct Lines {
    limit: usize,
    /// Begun by earlier chunks.
    begun: Vec<u8>,
    /// `begun` was given out whole.
    given: bool,
    too_long: bool,
    number: u64,
}

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            begun: Vec::new(),
            given: false,
            too_long: false,
            number: 0,
        }
    }

    /// The number of the line that was given last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line that ends in the chunk, with its number; the chunk is advanced. None when it is used up.
    pub(super) fn next<'a, 'c: 'a>(&'a mut self, chunk: &mut &'c [u8]) -> Option<(u64, Line<'a>)> {
        self.forget_given();
        let bytes = *chunk;
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.begin(bytes);
            *chunk = &[];
            return None;
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        *chunk = rest;
        self.number += 1;
        if self.begun.is_empty() && !self.too_long {
            let line = if line.len() > self.limit {
                Line::TooLong
            } else {
                Line::Text(trim_end(line))
            };
            return Some((self.number, line));
        }
        self.begin(line);
        Some(self.give())
    }

    /// What stands behind the last line end, when the upload has ended whole.
    pub(super) fn last(&mut self) -> Option<(u64, Line<'_>)> {
        self.forget_given();
        if self.begun.is_empty() && !self.too_long {
            return None;
        }
        self.number += 1;
        Some(self.give())
    }

    fn begin(&mut self, bytes: &[u8]) {
        if self.too_long || self.begun.len() + bytes.len() > self.limit {
            self.too_long = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }

    fn give(&mut self) -> (u64, Line<'_>) {
        self.given = true;
        let line = if std::mem::take(&mut self.too_long) {
            Line::TooLong
        } else {
            Line::Text(trim_end(&self.begun))
        };
        (self.number, line)
    }

    fn forget_given(&mut self) {
        if std::mem::take(&mut self.given) {
            self.begun.clear();
            // What one long line took is not kept for the stream's life.
            self.begun.shrink_to(16 * 1024);
        }
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(limit: usize, chunks: &[&[u8]]) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut lines = Lines::new(limit);
        let mut found = Vec::new();
        let owned = |(number, line): (u64, Line<'_>)| match line {
            Line::Text(text) => (number, Some(text.to_vec())),
            Line::TooLong => (number, None),
        };
        for chunk in chunks {
            let mut rest = *chunk;
            while let Some(line) = lines.next(&mut rest) {
                found.push(owned(line));
            }
        }
        found.extend(lines.last().map(owned));
        found
    }

    #[test]
    fn long_lines_are_read_over_and_counted() {
        let found = cut(4, &[b"abcd\nabcde\n", b"abc", b"de", b"fg\nx\r\n", b"abcdef"]);
        let text = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(
            found,
            [(1, text("abcd")), (2, None), (3, None), (4, text("x")), (5, None)]
        );
        assert!(cut(4, &[b"", b""]).is_empty());
        assert_eq!(cut(4, &[b"a\n"]), [(1, text("a"))]);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(text in "[ab\n]{0,80}", cuts in prop::collection::vec(0usize..80, 0..6), limit in 1usize..12) {
            let bytes = text.as_bytes();
            let mut places: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let whole = text.strip_suffix('\n').unwrap_or(&text);
            let expected: Vec<_> = whole.split('\n').enumerate().map(|(index, line)| {
                (index as u64 + 1, (line.len() <= limit).then(|| line.as_bytes().to_vec()))
            }).collect();
            let expected = if text.is_empty() { Vec::new() } else { expected };
            prop_assert_eq!(cut(limit, &chunks), expected);
        }
    }
}
