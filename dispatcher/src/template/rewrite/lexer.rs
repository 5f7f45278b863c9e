//! The tokens inside one tag.

/// A token of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or a keyword.
    Name(&'a str),
    /// Digits, perhaps with a fraction.
    Number(&'a str),
    /// A text with its quotes, escapes as they stand.
    Text(&'a str),
    /// An operator or a bracket.
    Sign(&'a str),
}

/// Bytes of a name; it is copied whenever it is looked up.
const MAX_NAME: usize = 256;

const SIGNS: [&str; 25] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", ".", ",", ":", "~", "|", "=", ">", "<", "(",
    ")", "[", "]", "{", "}",
];

/// The tokens up to the tag's `end` (`}}` or `%}`), and the bytes that they and the end take. The end may have a `-` or
/// `+` before it, and is none inside brackets, as in Jinja2.
pub(super) fn tokens<'a>(text: &'a str, end: &str) -> Result<(Vec<Token<'a>>, usize), String> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut open = 0_usize;
    loop {
        let blank = |byte: &u8| byte.is_ascii_whitespace();
        at += text.as_bytes()[at..]
            .iter()
            .take_while(|byte| blank(byte))
            .count();
        let rest = &text[at..];
        if open == 0 {
            for mark in ["", "-", "+"] {
                if rest.strip_prefix(mark).is_some_and(|rest| rest.starts_with(end)) {
                    return Ok((tokens, at + mark.len() + end.len()));
                }
            }
        }
        let token = next(rest)?;
        at += match token {
            Token::Name(part) | Token::Number(part) | Token::Text(part) | Token::Sign(part) => part.len(),
        };
        match token {
            Token::Sign("(" | "[" | "{") => open += 1,
            Token::Sign(")" | "]" | "}") => {
                open = open
                    .checked_sub(1)
                    .ok_or("a bracket is closed that was not opened")?;
            }
            _ => {}
        }
        tokens.push(token);
    }
}

fn next(rest: &str) -> Result<Token<'_>, String> {
    let bytes = rest.as_bytes();
    let Some(first) = bytes.first() else {
        return Err("unexpected end of input: the tag is not closed".to_owned());
    };
    let run = |fits: fn(&u8) -> bool| bytes.iter().take_while(|byte| fits(byte)).count();
    match first {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
            let length = run(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            if length > MAX_NAME {
                return Err(format!("a name has more than {MAX_NAME} bytes"));
            }
            Ok(Token::Name(&rest[..length]))
        }
        b'0'..=b'9' => number(rest).map(Token::Number),
        quote @ (b'\'' | b'"') => text(rest, *quote).map(Token::Text),
        _ => SIGNS
            .iter()
            .find(|sign| rest.starts_with(**sign))
            .map(|sign| Token::Sign(&rest[..sign.len()]))
            .ok_or_else(|| "unexpected character".to_owned()),
    }
}

fn number(rest: &str) -> Result<&str, String> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut length = digits(rest);
    if let Some(fraction) = rest[length..].strip_prefix('.')
        && digits(fraction) > 0
    {
        length += 1 + digits(fraction);
    }
    let joined = rest[length..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    if joined || length > 40 {
        return Err("a number has digits and perhaps a fraction".to_owned());
    }
    Ok(&rest[..length])
}

fn text(rest: &str, quote: u8) -> Result<&str, String> {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if byte == quote => return Ok(&rest[..=at]),
            _ => {}
        }
    }
    Err("unexpected end of string".to_owned())
}
