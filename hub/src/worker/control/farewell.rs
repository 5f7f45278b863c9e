//! What an operator says to the sessions that are closed, and over what time.

use std::sync::Arc;

use super::super::SessionId;

/// Bytes of the operator's own text. With the longest advice it fits a close frame (RFC 6455 section 5.5: 125 bytes, two of
/// them the code).
pub(crate) const MAX_TEXT: usize = 80;

/// Whether the client should come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// As the table of close codes says.
    AsTheCode,
    /// No.
    Never,
    /// After so many milliseconds; each session is told a time of its own up to twice as long.
    After(u32),
}

/// Code, text and advice.
#[derive(Debug)]
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

/// Sessions that are closed bit by bit, in random order.
#[derive(Debug)]
pub(super) struct Spread {
    pub(super) farewell: Arc<Farewell>,
    pub(super) permit: super::Permit,
    left: Vec<SessionId>,
    total: usize,
    seconds: usize,
    passed: usize,
}

impl Spread {
    pub(super) fn new(
        farewell: Arc<Farewell>,
        permit: super::Permit,
        mut sessions: Vec<SessionId>,
        seconds: u32,
    ) -> Self {
        fastrand::shuffle(&mut sessions);
        Self {
            farewell,
            permit,
            total: sessions.len(),
            left: sessions,
            seconds: seconds.max(1) as usize,
            passed: 0,
        }
    }

    /// A second has passed: its share of the sessions.
    pub(super) fn share(&mut self) -> Vec<SessionId> {
        self.passed += 1;
        let ahead = self.seconds.saturating_sub(self.passed);
        // Rounded up, so that a few sessions are spread as well and not told at once.
        let keep = (self.total * ahead).div_ceil(self.seconds);
        self.left.split_off(keep.min(self.left.len()))
    }

    pub(super) fn is_done(&self) -> bool {
        self.left.is_empty()
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

    #[test]
    fn a_spread_takes_all_within_its_seconds() {
        let spread = |count, seconds| {
            let sessions = (0..count).map(|slot| SessionId { slot, generation: 0 }).collect();
            let farewell = Farewell {
                code: 4003,
                text: String::new(),
                advice: Advice::AsTheCode,
            };
            Spread::new(farewell.into(), super::super::tests::permit(), sessions, seconds)
        };
        let mut few = spread(2, 10);
        let shares: Vec<usize> = (0..10).map(|_| few.share().len()).collect();
        assert_eq!(shares, [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
        assert!(few.is_done());

        let mut spread = spread(100, 7);
        let mut seen = std::collections::HashSet::new();
        for second in 0..7 {
            assert!(!spread.is_done(), "{second}");
            let share = spread.share();
            assert!((14..=15).contains(&share.len()), "{}", share.len());
            seen.extend(share);
        }
        assert!(spread.is_done());
        assert_eq!(seen.len(), 100);
    }
}
