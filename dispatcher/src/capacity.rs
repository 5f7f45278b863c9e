//! How much may wait in the queue: of one tenant, and in all.
//!
//! The store counts, at most about once a second and only while something is asked; in between this process adds what it
//! accepts itself. So the estimate is never below what is stored by this process, and of other processes it lacks what they
//! accepted since the last count: the bounds hold to within what the others accept in [`EVERY`].

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::{http::Problem, ids::TenantId};
use http::StatusCode;

use crate::{
    model::{DeliveryState, Lane, NewNotification},
    service::Service,
    store::StoreError,
};

/// How old a count may be.
const EVERY: Duration = Duration::from_secs(1);

/// A count takes at most this part of the time, so that a long queue is counted less often.
const PART: u32 = 20;

/// When it is worth asking again for room.
const RETRY: Duration = Duration::from_secs(5);

/// The bounds and the estimate. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Capacity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    service: Service,
    ledger: Mutex<Ledger>,
    /// Somebody counts.
    counting: AtomicBool,
    /// The first count is waited for by all.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    all: u64,
    tenant: u64,
}

impl Bounds {
    /// What is critical finds room when all else is refused: a tenth more is kept for it.
    fn of(self, lane: Lane) -> Self {
        let more = |bound: u64| match lane {
            Lane::Critical => bound.saturating_add(bound.div_ceil(10)),
            Lane::High | Lane::Medium | Lane::Low => bound,
        };
        Self {
            all: more(self.all),
            tenant: more(self.tenant),
        }
    }
}

/// What one tenant has waiting, or all have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    /// By the last count.
    counted: u64,
    /// Of requests at work.
    reserved: u64,
    /// Stored since the last count began.
    added: u64,
}

impl Sum {
    fn total(self) -> u64 {
        self.counted + self.reserved + self.added
    }
}

/// The estimate.
#[derive(Debug, Default)]
struct Ledger {
    all: Sum,
    tenants: HashMap<TenantId, Sum>,
    counted_at: Option<Instant>,
    /// Not before so long after the last count.
    pause: Duration,
}

/// What the store counts.
#[derive(Debug, Default)]
struct Counted {
    all: u64,
    /// None: no tenant can be near its bound.
    tenants: Option<HashMap<TenantId, u64>>,
}

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    All,
    Tenant,
}

impl Ledger {
    fn is_stale(&self, now: Instant) -> bool {
        self.counted_at
            .is_none_or(|at| now.duration_since(at) >= self.pause.max(EVERY))
    }

    fn room(&self, tenant: &TenantId, number: u64, bounds: Bounds) -> Result<(), Full> {
        let of_tenant = self.tenants.get(tenant).copied().unwrap_or_default();
        if self.all.total() + number > bounds.all {
            Err(Full::All)
        } else if of_tenant.total() + number > bounds.tenant {
            Err(Full::Tenant)
        } else {
            Ok(())
        }
    }

    fn reserve(&mut self, tenant: &TenantId, number: u64, bounds: Bounds) -> Result<(), Full> {
        self.room(tenant, number, bounds)?;
        self.all.reserved += number;
        self.tenants.entry(tenant.clone()).or_default().reserved += number;
        Ok(())
    }

    fn end(&mut self, tenant: &TenantId, number: u64, stored: bool) {
        let of_tenant = self.tenants.entry(tenant.clone()).or_default();
        for sum in [&mut self.all, of_tenant] {
            sum.reserved = sum.reserved.saturating_sub(number);
            if stored {
                sum.added += number;
            }
        }
    }

    /// What was stored before a count began, so that the count has it.
    fn before_count(&self) -> (u64, HashMap<TenantId, u64>) {
        let tenants = self.tenants.iter();
        (
            self.all.added,
            tenants.map(|(tenant, sum)| (tenant.clone(), sum.added)).collect(),
        )
    }

    fn after_count(
        &mut self,
        (all, tenants): (u64, HashMap<TenantId, u64>),
        counted: Counted,
        now: Instant,
        took: Duration,
    ) {
        self.all.counted = counted.all;
        self.all.added = self.all.added.saturating_sub(all);
        for sum in self.tenants.values_mut() {
            sum.counted = 0;
        }
        for (tenant, added) in tenants {
            if let Some(sum) = self.tenants.get_mut(&tenant) {
                sum.added = sum.added.saturating_sub(added);
            }
        }
        for (tenant, number) in counted.tenants.unwrap_or_default() {
            self.tenants.entry(tenant).or_default().counted = number;
        }
        self.tenants.retain(|_, sum| *sum != Sum::default());
        self.counted_at = Some(now);
        self.pause = took * PART;
    }
}

/// Room that is held for a notification. It is given back unless it is kept.
#[derive(Debug)]
#[must_use]
pub(crate) struct Room {
    held: Option<(Capacity, TenantId, u64)>,
}

impl Room {
    /// The notification is stored.
    pub(crate) fn keep(mut self) {
        if let Some((capacity, tenant, number)) = self.held.take() {
            capacity.ledger().end(&tenant, number, true);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some((capacity, tenant, number)) = self.held.take() {
            capacity.ledger().end(&tenant, number, false);
        }
    }
}

impl Capacity {
    pub(crate) fn new(service: Service) -> Self {
        Self(Arc::new(Inner {
            service,
            ledger: Mutex::default(),
            counting: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// As they are set now.
    fn bounds(&self) -> Bounds {
        let settings = self.0.service.settings().current();
        Bounds {
            all: settings.config.limits.queued_max,
            tenant: settings.config.limits.queued_max_per_tenant,
        }
    }

    /// Holds room for what a notification adds to the queue: its pending deliveries, and one for the fan-out of a group. What
    /// adds nothing, as inbox and frames at once, always has room.
    ///
    /// # Errors
    /// 429: the queue is full.
    pub(crate) async fn take(&self, new: &NewNotification) -> Result<Room, Problem> {
        let pending = new
            .deliveries
            .iter()
            .filter(|delivery| delivery.state == DeliveryState::Pending)
            .count();
        let number = pending as u64 + u64::from(new.job.is_some());
        if number == 0 {
            return Ok(Room { held: None });
        }
        let bounds = self.bounds().of(new.lane);
        self.look(&new.tenant, number, bounds).await;
        match self.ledger().reserve(&new.tenant, number, bounds) {
            Ok(()) => Ok(Room {
                held: Some((self.clone(), new.tenant.clone(), number)),
            }),
            Err(full) => {
                self.0.service.count_refused();
                Err(full.problem(bounds))
            }
        }
    }

    /// Has it counted again where that is due. It is waited for where there is no count, or where the old one leaves no room.
    async fn look(&self, tenant: &TenantId, number: u64, bounds: Bounds) {
        let is_due = |ledger: &Ledger| ledger.is_stale(Instant::now());
        let must_wait = {
            let ledger = self.ledger();
            if !is_due(&ledger) {
                return;
            }
            ledger.counted_at.is_none() || ledger.room(tenant, number, bounds).is_err()
        };
        if must_wait {
            let _turn = self.0.turn.lock().await;
            if is_due(&self.ledger()) {
                self.count().await;
            }
        } else if !self.0.counting.swap(true, Ordering::AcqRel) {
            let capacity = self.clone();
            tokio::spawn(async move {
                capacity.count().await;
                capacity.0.counting.store(false, Ordering::Release);
            });
        }
    }

    async fn count(&self) {
        let before = self.ledger().before_count();
        let begun = Instant::now();
        match self.ask().await {
            Ok(counted) => {
                let now = Instant::now();
                self.ledger().after_count(before, counted, now, now - begun);
            }
            // What is known counts until the store answers; it will not take anything meanwhile.
            Err(error) => tracing::warn!(%error, "the queue could not be counted"),
        }
    }

    async fn ask(&self) -> Result<Counted, StoreError> {
        let lanes = self.0.service.read(self.0.service.store().queue_depths()).await?;
        let all = lanes.iter().map(|lane| lane.depth).sum();
        // No tenant has more than all have.
        let near = all > self.bounds().tenant / 2;
        let tenants = match near {
            true => Some(
                self.0
                    .service
                    .read(self.0.service.store().tenant_depths())
                    .await?,
            ),
            false => None,
        };
        Ok(Counted { all, tenants })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Numbers are whole after a panic, too.
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Full {
    fn problem(self, bounds: Bounds) -> Problem {
        let whose = match self {
            Self::All => format!("{} deliveries wait", bounds.all),
            Self::Tenant => format!("{} deliveries of this tenant wait", bounds.tenant),
        };
        let detail = format!("the queue is full: {whose}; nothing was stored, send it again later");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", detail).retry_after(RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { all: 10, tenant: 6 };

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn counted(all: u64, tenants: &[(&str, u64)]) -> Counted {
        let tenants = tenants.iter().map(|(name, number)| (tenant(name), *number));
        Counted {
            all,
            tenants: Some(tenants.collect()),
        }
    }

    #[test]
    fn a_tenth_more_is_kept_for_the_critical() {
        let mut ledger = Ledger::default();
        let a = tenant("a");
        assert_eq!(ledger.reserve(&a, 6, BOUNDS.of(Lane::High)), Ok(()));
        assert_eq!(ledger.reserve(&a, 1, BOUNDS.of(Lane::High)), Err(Full::Tenant));
        assert_eq!(ledger.reserve(&a, 1, BOUNDS.of(Lane::Critical)), Ok(()));
        assert_eq!(
            ledger.reserve(&a, 1, BOUNDS.of(Lane::Critical)),
            Err(Full::Tenant)
        );
    }

    #[test]
    fn a_tenant_and_all_have_their_bounds() {
        let mut ledger = Ledger::default();
        let (a, b) = (tenant("a"), tenant("b"));
        assert_eq!(ledger.reserve(&a, 7, BOUNDS), Err(Full::Tenant));
        assert_eq!(ledger.reserve(&a, 6, BOUNDS), Ok(()));
        assert_eq!(ledger.reserve(&a, 1, BOUNDS), Err(Full::Tenant));
        assert_eq!(ledger.reserve(&b, 5, BOUNDS), Err(Full::All));
        assert_eq!(ledger.reserve(&b, 4, BOUNDS), Ok(()));
        ledger.end(&a, 6, false);
        assert_eq!(ledger.reserve(&b, 2, BOUNDS), Ok(()));
        assert_eq!(ledger.all.total(), 6);
    }

    #[test]
    fn what_is_stored_while_it_is_counted_is_not_forgotten() {
        let mut ledger = Ledger::default();
        let a = tenant("a");
        for _ in 0..2 {
            ledger.reserve(&a, 2, BOUNDS).unwrap();
        }
        ledger.end(&a, 2, true);
        let before = ledger.before_count();
        // Stored after the count began: the count may have it or not.
        ledger.end(&a, 2, true);
        ledger.after_count(before, counted(2, &[("a", 2)]), Instant::now(), Duration::ZERO);
        assert_eq!((ledger.all.total(), ledger.tenants[&a].total()), (4, 4));
        let before = ledger.before_count();
        ledger.after_count(before, counted(3, &[("a", 3)]), Instant::now(), Duration::ZERO);
        assert_eq!((ledger.all.total(), ledger.tenants[&a].total()), (3, 3));
        let before = ledger.before_count();
        ledger.after_count(before, Counted::default(), Instant::now(), Duration::ZERO);
        assert_eq!(ledger.all, Sum::default());
        assert!(ledger.tenants.is_empty());
    }

    #[test]
    fn a_long_count_is_made_less_often() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        assert!(ledger.is_stale(now));
        for (took, stale_after) in [(0, 1_000), (100, 2_000)] {
            let before = ledger.before_count();
            ledger.after_count(before, Counted::default(), now, Duration::from_millis(took));
            assert!(!ledger.is_stale(now + Duration::from_millis(stale_after - 1)));
            assert!(ledger.is_stale(now + Duration::from_millis(stale_after)));
        }
    }
}
