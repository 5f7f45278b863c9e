//! How much that is wrong an address may show. A leaky bucket: each failure adds one, and the bucket empties evenly over the
//! window. An address over its bound is refused before a signature is checked or a key is looked up.
//!
//! Many people may stand behind one address. So what was verified before passes however full the bucket is, what was good
//! once and has expired does not count, and each new success makes room for a failure more. One that is refused may try again after the time that empties
//! the bucket by one.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Parts, each with a lock of its own.
const SHARDS: usize = 16;

/// Addresses that a part remembers at the most; about 4 MiB in all.
const PER_SHARD: usize = 4096;

/// Where an address is; of IPv6 the network, as hosts choose their addresses in it.
type Place = [u8; 8];

/// Counts failures by address. Bounded: where there are too many addresses, one of them is forgotten.
#[derive(Debug)]
pub struct Guard {
    /// Failures within the window; none: no bound.
    limit: f64,
    /// Failures that are forgotten in a second.
    leak: f64,
    shards: [Mutex<HashMap<Place, Bucket>>; SHARDS],
    hasher: RandomState,
    /// Addresses that are remembered. Mostly there is none, and nothing is locked.
    remembered: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    failures: f64,
    successes: f64,
    at: Instant,
}

impl Guard {
    /// So many failures within this time; 0: no bound.
    #[must_use]
    pub fn new(failures: u32, window: Duration) -> Self {
        let limit = f64::from(failures);
        Self {
            limit,
            leak: limit / window.as_secs_f64().max(0.001),
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            remembered: AtomicUsize::new(0),
        }
    }

    /// Without a bound.
    #[must_use]
    pub fn off() -> Self {
        Self::new(0, Duration::from_secs(1))
    }

    /// When the address may try again; none: now.
    pub(super) fn refuses(&self, address: IpAddr) -> Option<Duration> {
        if self.remembered.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let place = place(address);
        let shard = self.shard(&place).lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = shard.get(&place)?.now(self.leak);
        drop(shard);
        let over = bucket.failures + 1.0 - self.limit - bucket.successes;
        (over > 0.0).then(|| Duration::from_secs_f64(over / self.leak))
    }

    /// The address showed something wrong.
    pub(super) fn failed(&self, address: IpAddr) {
        if self.limit <= 0.0 {
            return;
        }
        let place = place(address);
        let mut shard = self.shard(&place).lock().unwrap_or_else(PoisonError::into_inner);
        let before = shard.len();
        if before >= PER_SHARD && !shard.contains_key(&place) {
            // The map's order is random, so this is any of them.
            let any = shard.keys().next().copied();
            any.and_then(|any| shard.remove(&any));
        }
        let bucket = shard.entry(place).or_insert_with(|| Bucket {
            failures: 0.0,
            successes: 0.0,
            at: Instant::now(),
        });
        *bucket = bucket.now(self.leak);
        bucket.failures += 1.0;
        let after = shard.len();
        // Only ever moved under a shard's lock, by what the shard grew or shrank.
        if after >= before {
            self.remembered.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.remembered.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// The address showed something good that was not known before.
    pub(super) fn succeeded(&self, address: IpAddr) {
        if self.remembered.load(Ordering::Relaxed) == 0 {
            return;
        }
        let place = place(address);
        let mut shard = self.shard(&place).lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = shard.get_mut(&place) else {
            return;
        };
        *bucket = bucket.now(self.leak);
        if bucket.failures > 0.0 {
            bucket.successes += 1.0;
        } else {
            shard.remove(&place);
            self.remembered.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn shard(&self, place: &Place) -> &Mutex<HashMap<Place, Bucket>> {
        &self.shards[(self.hasher.hash_one(place) % SHARDS as u64) as usize]
    }
}

impl Bucket {
    /// What is left of it.
    fn now(&self, leak: f64) -> Self {
        let leaked = self.at.elapsed().as_secs_f64() * leak;
        Self {
            failures: (self.failures - leaked).max(0.0),
            successes: (self.successes - leaked).max(0.0),
            at: Instant::now(),
        }
    }
}

fn place(address: IpAddr) -> Place {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            // No network of IPv6 begins like this.
            [0xff, 0xff, 0xff, 0xff, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            let mut place = [0; 8];
            for (two, segment) in place.chunks_exact_mut(2).zip([a, b, c, d]) {
                two.copy_from_slice(&segment.to_be_bytes());
            }
            place
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_refused_over_its_bound_and_let_in_with_time() {
        let guard = Guard::new(10, Duration::from_secs(60));
        let (here, there) = (address("10.0.0.1"), address("10.0.0.2"));
        for _ in 0..10 {
            assert_eq!(guard.refuses(here), None);
            guard.failed(here);
        }
        assert_eq!(guard.refuses(here), Some(Duration::from_secs(6)));
        assert_eq!(guard.refuses(there), None);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(guard.refuses(here), Some(Duration::from_secs(3)));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(guard.refuses(here), None);
        guard.failed(here);
        assert!(guard.refuses(here).is_some());
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..10 {
            assert_eq!(guard.refuses(here), None);
            guard.failed(here);
        }
        assert!(guard.refuses(here).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_shares_an_address_with_many_is_not_locked_out_for_one() {
        let guard = Guard::new(10, Duration::from_secs(60));
        let here = address("10.0.0.1");
        for _ in 0..100 {
            assert_eq!(guard.refuses(here), None);
            guard.failed(here);
            guard.succeeded(here);
        }
        for _ in 0..10 {
            assert_eq!(guard.refuses(here), None);
            guard.failed(here);
        }
        assert!(guard.refuses(here).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_forgotten() {
        let guard = Guard::new(10, Duration::from_secs(60));
        for number in 0..SHARDS as u32 * PER_SHARD as u32 * 2 {
            guard.failed(IpAddr::from(number.to_be_bytes()));
        }
        let count = || -> usize { guard.shards.iter().map(|shard| shard.lock().unwrap().len()).sum() };
        assert!(count() <= SHARDS * PER_SHARD);
        assert_eq!(guard.remembered.load(Ordering::Relaxed), count());
        tokio::time::advance(Duration::from_secs(60)).await;
        for number in 0..SHARDS as u32 * PER_SHARD as u32 * 2 {
            guard.succeeded(IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!((count(), guard.remembered.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn hosts_of_one_network_are_one_and_no_bound_is_none() {
        let of = |text| place(address(text));
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        let guard = Guard::off();
        (0..1000).for_each(|_| guard.failed(address("10.0.0.1")));
        assert_eq!(guard.refuses(address("10.0.0.1")), None);
    }
}
