//! What an operator says to the sessions that are closed.

use serde::{Deserialize, Serialize};

/// Bytes of the operator's own text. With the longest advice it fits a close frame (RFC 6455 section 5.5: 125 bytes, two of
/// them the code).
pub(crate) const MAX_TEXT: usize = 80;

/// Whether the client should come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Advice {
    /// As the table of close codes says.
    AsTheCode,
    /// No.
    Never,
    /// After so many milliseconds; each session is told a time of its own up to twice as long.
    After(u32),
}

/// Code, text and advice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Farewell {
    pub(crate) code: u16,
    pub(crate) text: String,
    pub(crate) advice: Advice,
}

impl Farewell {
    /// The close reason for one session.
    pub(super) fn reason(&self) -> String {
        match self.advice {
            Advice::AsTheCode => self.text.clone(),
            Advice::Never => format!("{}; reconnect=no", self.text),
            Advice::After(ms) => {
                let spread = ms.saturating_add(fastrand::u32(0..=ms));
                format!("{}; retry_after_ms={spread}", self.text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_carry_the_advice_and_fit_a_close_frame() {
        let reason = |advice| {
            Farewell {
                code: 4003,
                text: "x".repeat(MAX_TEXT),
                advice,
            }
            .reason()
        };
        assert_eq!(reason(Advice::AsTheCode), "x".repeat(MAX_TEXT));
        assert!(reason(Advice::Never).ends_with("x; reconnect=no"));
        assert!(reason(Advice::After(u32::MAX)).len() <= 123);
        for _ in 0..100 {
            let reason = reason(Advice::After(1000));
            let (_, ms) = reason.split_once("; retry_after_ms=").unwrap();
            assert!((1000..=2000).contains(&ms.parse::<u32>().unwrap()));
        }
    }
}
