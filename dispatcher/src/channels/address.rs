//! Email addresses: what is taken, and how they look in logs.

use lettre::Address;

/// RFC 5321, section 4.5.3.1.3 less the brackets.
const MAX_LENGTH: usize = 254;

/// A text that is no address that mail can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an email address")]
pub struct InvalidAddress;

/// Reads a bare address, `local@domain`, as the API and contacts give it.
///
/// # Errors
/// [`InvalidAddress`], also for a quoted local part with blanks or control characters, which the standard allows and
/// no mailbox has.
pub fn parse_address(text: &str) -> Result<Address, InvalidAddress> {
    if text.len() > MAX_LENGTH
        || text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>'))
    {
        return Err(InvalidAddress);
    }
    text.parse().map_err(|_| InvalidAddress)
}

/// The address as logs may show it: `u***@e***.com`.
#[must_use]
pub fn mask_address(address: &str) -> String {
    let first = |text: &str| text.chars().next().map(String::from).unwrap_or_default();
    match address.rsplit_once('@') {
        Some((local, domain)) => {
            let top = domain.rsplit_once('.').map_or("", |(_, top)| top);
            let dot = if top.is_empty() { "" } else { "." };
            format!("{}***@{}***{dot}{top}", first(local), first(domain))
        }
        None => format!("{}***", first(address)),
    }
}

/// A provider's answer as it is kept: one line, at most 300 characters, without the recipient's address.
pub(crate) fn clean_response(text: &str, address: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect();
    // Servers repeat the address in their own case.
    let (lower, wanted) = (line.to_ascii_lowercase(), address.to_ascii_lowercase());
    if wanted.is_empty() {
        return line;
    }
    let mut out = String::with_capacity(line.len());
    let mut at = 0;
    while let Some(found) = lower[at..].find(&wanted) {
        out.push_str(&line[at..at + found]);
        out.push_str(&mask_address(address));
        at += found + wanted.len();
    }
    out.push_str(&line[at..]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_of_mailboxes_are_taken_and_others_are_not() {
        for good in [
            "a@b.example",
            "first.last+tag@sub.example.com",
            "用户@例子.广告",
            "o'brien@example.com",
        ] {
            assert!(parse_address(good).is_ok(), "{good}");
        }
        let long = format!("{}@example.com", "a".repeat(300));
        for bad in [
            "",
            "a",
            "@",
            "a@",
            "@b.example",
            "a b@c.example",
            "a@b.example\r\nBcc: x@y.example",
            "\"a\r\nX: y\"@b.example",
            "a@b.example,c@d.example",
            "<a@b.example>",
            "A <a@b.example>",
            long.as_str(),
        ] {
            assert!(parse_address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn logs_show_first_letters_only() {
        assert_eq!(mask_address("user@example.com"), "u***@e***.com");
        assert_eq!(mask_address("user@localhost"), "u***@l***");
        assert_eq!(mask_address("nonsense"), "n***");
        assert_eq!(mask_address(""), "***");
    }

    #[test]
    fn answers_lose_the_address_and_line_ends() {
        assert_eq!(
            clean_response(
                "5.1.1 <User@Example.com>: gone\r\nuser@example.com",
                "user@example.com"
            ),
            "5.1.1 <u***@e***.com>: gone  u***@e***.com"
        );
        assert_eq!(clean_response(&"x".repeat(1000), "a@b.example").len(), 300);
    }

    proptest! {
        #[test]
        fn nothing_that_is_taken_can_break_a_line(text in "\\PC{0,20}[\r\n \u{0}<>\"]?@[a-z]{1,5}\\.example") {
            if let Ok(address) = parse_address(&text) {
                let address: &str = address.as_ref();
                prop_assert!(!address.chars().any(|c| c.is_control() || c.is_whitespace()));
            }
        }

        #[test]
        fn cleaning_never_panics(text in ".{0,400}", address in ".{0,10}") {
            clean_response(&text, &address);
        }
    }
}
