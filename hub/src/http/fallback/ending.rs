//! How a session's end is told to who reads no close frame.

use std::time::Duration;

use common::{http::Problem, protocol::Close, token::TokenError};
use http::StatusCode;

/// Those who come back at once are spread over so many milliseconds.
const SPREAD_MS: u32 = 1000;

/// The end of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ending<'a> {
    code: u16,
    /// An operator says not to come back.
    never: bool,
    /// The reason without its hint.
    pub(super) reason: &'a str,
    /// When to come back, where that helps without anything else.
    pub(super) retry_after_ms: Option<u32>,
}

impl<'a> Ending<'a> {
    pub(super) fn new(code: u16, text: &'a str) -> Self {
        let (reason, hint) = match text.split_once("; retry_after_ms=") {
            Some((reason, hint)) => (reason, hint.parse().ok()),
            None => (text, None),
        };
        let (reason, never) = match reason.strip_suffix("; reconnect=no") {
            Some(reason) => (reason, true),
            None => (reason, false),
        };
        let needs_token = [Close::TokenExpired, Close::TokenInvalid]
            .map(Close::code)
            .contains(&code);
        // A code that is none of the table's is an operator's own.
        let helps = Close::ALL
            .iter()
            .find(|close| close.code() == code)
            .is_none_or(|close| close.reconnect() && !needs_token);
        let retry_after_ms = hint.or_else(|| (helps && !never).then(|| fastrand::u32(0..SPREAD_MS)));
        Self {
            code,
            never,
            reason,
            retry_after_ms,
        }
    }

    /// The answer of a poll that has nothing else to say.
    pub(super) fn problem(&self) -> Problem {
        let is = |close: Close| self.code == close.code();
        if is(Close::TokenExpired) {
            return TokenError::Expired.into();
        }
        if self.never || (is(Close::Disconnected) && self.retry_after_ms.is_none()) {
            let detail = "the session was closed by an operator";
            return Problem::new(StatusCode::FORBIDDEN, "disconnected", detail);
        }
        let after = u64::from(self.retry_after_ms.unwrap_or(SPREAD_MS));
        let detail = format!("the session ended ({}); poll again", self.reason);
        Problem::unavailable(detail, Duration::from_millis(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_says_whether_and_when_to_come_back() {
        let end = |code, text| Ending::new(code, text);
        let restart = end(1012, "restart; retry_after_ms=1500");
        assert_eq!((restart.reason, restart.retry_after_ms), ("restart", Some(1500)));
        let problem = restart.problem();
        assert_eq!(
            (problem.status.as_u16(), problem.code, problem.retry_after),
            (503, "unavailable", Some(Duration::from_millis(1500)))
        );
        let slow = end(4008, "slow consumer");
        assert_eq!(slow.reason, "slow consumer");
        assert!(slow.retry_after_ms.is_some_and(|after| after < SPREAD_MS));
        for (code, text, status) in [
            (4001, "x", 401),
            (4003, "x", 403),
            (1000, "x", 503),
            (4100, "x; reconnect=no", 403),
        ] {
            let end = end(code, text);
            assert_eq!((end.reason, end.retry_after_ms), ("x", None), "{code}");
            assert_eq!(end.problem().status.as_u16(), status, "{code}");
        }
        // An operator may say when, whatever the code, and use codes of their own.
        assert_eq!(end(4003, "x; retry_after_ms=7").retry_after_ms, Some(7));
        assert!(end(4100, "x").retry_after_ms.is_some());
    }
}
