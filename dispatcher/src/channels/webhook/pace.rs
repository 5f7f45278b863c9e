//! How often one URL is called: at most so many times within any minute, and not at all while it asked for a pause.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use url::Url;

use crate::model::Micros;

const MINUTE: Duration = Duration::from_secs(60);

/// URLs are forgotten when nothing of them counts any more; looked for whenever there are twice as many as after the
/// last look, and this many at least.
const SWEEP_FROM: usize = 1024;

/// The calls of each URL within the last minute. Its memory is bounded by what can be sent in a minute.
#[derive(Debug)]
pub(super) struct Pace {
    hasher: RandomState,
    longest_pause: Duration,
    urls: Mutex<Urls>,
}

#[derive(Debug, Default)]
struct Urls {
    known: HashMap<u64, Calls>,
    sweep_at: usize,
}

/// All times are of the caller's clock.
#[derive(Debug, Default)]
struct Calls {
    /// When it was called, oldest first; at most as many as are allowed.
    made: VecDeque<Micros>,
    /// The latest time that was named to one that had to wait.
    promised: Micros,
    /// It asked not to be called before.
    paused: Micros,
}

impl Calls {
    /// Counts a call, or says when to ask again. Those who wait are told times as far apart as the limit allows, so that
    /// they do not come back together.
    fn call(&mut self, allowed: usize, now: Micros) -> Result<(), Micros> {
        while self.made.front().is_some_and(|at| at.plus(MINUTE) <= now) {
            self.made.pop_front();
        }
        if self.paused > now {
            return Err(self.promise(self.paused, allowed, now));
        }
        // Of those that are still in the minute so many have to leave it.
        let Some(leaving) = (self.made.len() + 1).checked_sub(allowed).filter(|n| *n > 0) else {
            self.made.push_back(now);
            return Ok(());
        };
        let free = self.made.get(leaving - 1).map_or(now, |at| at.plus(MINUTE));
        Err(self.promise(free, allowed, now))
    }

    fn promise(&mut self, free: Micros, allowed: usize, now: Micros) -> Micros {
        // A little more than its share, so that one which came late does not turn away who was told a time a minute after.
        let step = MINUTE * 51 / 50 / u32::try_from(allowed).unwrap_or(u32::MAX).max(1);
        let until = if self.promised > now {
            free.max(self.promised.plus(step))
        } else {
            free
        };
        self.promised = until;
        until
    }

    fn matters(&self, now: Micros) -> bool {
        self.paused > now || self.promised > now || self.made.back().is_some_and(|at| at.plus(MINUTE) > now)
    }
}

impl Pace {
    /// A receiver can ask for pauses up to `longest_pause`.
    pub(super) fn new(longest_pause: Duration) -> Self {
        Self {
            hasher: RandomState::new(),
            longest_pause,
            urls: Mutex::default(),
        }
    }

    /// Counts a call of the URL that is made now, or says when to ask again.
    pub(super) fn call(&self, url: &str, allowed: usize, now: Micros) -> Result<(), Micros> {
        let key = self.hasher.hash_one(&*receiver(url));
        let mut urls = self.lock();
        urls.sweep(now);
        urls.known.entry(key).or_default().call(allowed, now)
    }

    /// The URL asked not to be called before this.
    pub(super) fn pause(&self, url: &str, until: Micros, now: Micros) {
        let key = self.hasher.hash_one(&*receiver(url));
        let mut urls = self.lock();
        let calls = urls.known.entry(key).or_default();
        calls.paused = calls.paused.max(until.min(now.plus(self.longest_pause)));
    }

    fn lock(&self) -> MutexGuard<'_, Urls> {
        self.urls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The URL as its receiver gets it: however it is written, and without the fragment, which is not sent.
fn receiver(url: &str) -> Cow<'_, str> {
    Url::parse(url).map_or(Cow::Borrowed(url), |mut parsed| {
        parsed.set_fragment(None);
        Cow::Owned(parsed.into())
    })
}

impl Urls {
    fn sweep(&mut self, now: Micros) {
        if self.known.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.known.retain(|_, calls| calls.matters(now));
            self.sweep_at = self.known.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Micros = Micros(1_000_000_000);
    const URL: &str = "https://example.com/hook";

    #[test]
    fn one_receiver_has_one_pace_however_its_url_is_written() {
        let pace = Pace::new(MINUTE * 10);
        assert_eq!(pace.call(URL, 1, NOW), Ok(()));
        for same in [
            "HTTPS://EXAMPLE.com/hook",
            "https://example.com:443/hook#two",
            "https://example.com/./hook",
        ] {
            assert!(pace.call(same, 1, NOW).is_err(), "{same}");
        }
        for other in ["https://example.com/hook?key=2", "https://example.com/hook/2"] {
            assert_eq!(pace.call(other, 1, NOW), Ok(()), "{other}");
        }
    }

    #[test]
    fn the_hundred_and_first_waits_for_the_first_to_be_a_minute_old() {
        let pace = Pace::new(MINUTE * 10);
        for n in 0..100 {
            assert_eq!(pace.call(URL, 100, Micros(NOW.0 + n)), Ok(()));
        }
        let later = Micros(NOW.0 + 100);
        let until = NOW.plus(MINUTE);
        assert_eq!(pace.call(URL, 100, later), Err(until));
        // The next ones come one after the other.
        let step = Duration::from_millis(612);
        assert_eq!(pace.call(URL, 100, later), Err(until.plus(step)));
        assert_eq!(pace.call("https://example.com/other", 100, later), Ok(()));
        assert_eq!(pace.call(URL, 100, until), Ok(()));
    }

    #[test]
    fn a_pause_holds_for_all_and_is_bounded() {
        let pace = Pace::new(MINUTE * 10);
        let until = NOW.plus(Duration::from_secs(5));
        pace.pause(URL, until, NOW);
        assert_eq!(pace.call(URL, 2, NOW), Err(until));
        assert_eq!(pace.call(URL, 2, NOW), Err(until.plus(MINUTE * 51 / 100)));
        assert_eq!(pace.call(URL, 2, until), Ok(()));
        pace.pause(URL, Micros(i64::MAX), NOW);
        assert!(pace.call(URL, 2, NOW.plus(MINUTE * 10)).is_ok());
    }

    #[test]
    fn urls_that_matter_no_more_are_forgotten() {
        let pace = Pace::new(MINUTE * 10);
        for n in 0..SWEEP_FROM {
            assert!(pace.call(&n.to_string(), 1, NOW).is_ok());
        }
        assert!(pace.call(URL, 1, NOW.plus(MINUTE)).is_ok());
        assert_eq!(pace.lock().known.len(), 1);
    }

    proptest! {
        #[test]
        fn no_minute_has_more_than_are_allowed(
            allowed in 1usize..8,
            steps in prop::collection::vec(0i64..40_000_000, 1..200),
        ) {
            let mut calls = Calls::default();
            let mut now = NOW;
            let mut made: Vec<Micros> = Vec::new();
            for step in steps {
                now = Micros(now.0 + step);
                match calls.call(allowed, now) {
                    Ok(()) => made.push(now),
                    Err(until) => prop_assert!(until > now),
                }
                let minute = made.iter().filter(|at| at.plus(MINUTE) > now).count();
                prop_assert!(minute <= allowed);
                prop_assert!(calls.made.len() <= allowed);
            }
        }
    }
}
