//! Line comments in JSON, with which the seeds' documents write their examples.

/// The text without `//` comments outside of strings; none where there are none.
pub(super) fn without_comments(json: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped, mut found) = (false, false, false);
    let mut bytes = json.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if !in_string && byte == b'/' && bytes.peek() == Some(&b'/') {
            found = true;
            while bytes.peek().is_some_and(|byte| *byte != b'\n') {
                bytes.next();
            }
            continue;
        }
        match byte {
            b'"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && byte == b'\\' && !escaped;
        out.push(byte);
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_comments_are_taken_out_of_examples() {
        let strip =
            |json: &str| without_comments(json.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
        let json = "{\n \"a\": \"http://x \\\" //\", // why\n \"b\": 1 // 可选\n}";
        assert_eq!(
            strip(json).unwrap(),
            "{\n \"a\": \"http://x \\\" //\", \n \"b\": 1 \n}"
        );
        assert_eq!(strip(r#"{"a":"//"}"#), None);
    }
}
