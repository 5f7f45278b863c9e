//! Limits of connections, and who is online on this node.

use std::{
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    ids::TenantId,
    topic::{TopicHasher, TopicKey},
};
use dashmap::DashMap;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::{ceilings::Ceilings, comeback::Comeback, config::HubConfig};

/// Why a handshake was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Rate,
    Node,
    Tenant,
    User,
    Address,
}

impl Refusal {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Rate => "handshake_rate",
            Self::Node => "node_full",
            Self::Tenant => "tenant_full",
            Self::User => "user_full",
            Self::Address => "address_full",
        }
    }
}

/// A tenant's sessions on this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantCount {
    /// Open sessions.
    pub connections: usize,
    /// Users with at least one session.
    pub users: usize,
}

/// Counts sessions and admits new ones.
#[derive(Debug)]
pub(crate) struct Connections {
    ceilings: Arc<Ceilings>,
    /// Changed with the configuration alone.
    door: RwLock<Door>,
    total: AtomicUsize,
    tenants: DashMap<TenantId, TenantCount>,
    /// Sessions of each user; a user's sessions share the key's text.
    users: DashMap<TopicKey, u32, TopicHasher>,
    addresses: DashMap<IpAddr, u32>,
}

/// How many come in.
#[derive(Debug)]
struct Door {
    per_second: u32,
    handshakes: DefaultDirectRateLimiter,
    comeback: Comeback,
}

impl Door {
    fn new(per_second: u32) -> Self {
        let rate = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        Self {
            per_second,
            handshakes: RateLimiter::direct(Quota::per_second(rate)),
            comeback: Comeback::new(per_second),
        }
    }
}

impl Connections {
    pub(crate) fn new(ceilings: Arc<Ceilings>, config: &HubConfig) -> Self {
        Self {
            ceilings,
            door: RwLock::new(Door::new(config.handshakes_per_second)),
            total: AtomicUsize::new(0),
            tenants: DashMap::new(),
            users: DashMap::default(),
            addresses: DashMap::new(),
        }
    }

    /// Takes one handshake's token; told before anything costly is done.
    pub(crate) fn take_handshake(&self) -> Result<(), Refusal> {
        let door = self.door.read().unwrap_or_else(PoisonError::into_inner);
        door.handshakes.check().map_err(|_| Refusal::Rate)
    }

    /// Takes on another rate of handshakes.
    pub(crate) fn take_on(&self, config: &HubConfig) {
        let mut door = self.door.write().unwrap_or_else(PoisonError::into_inner);
        // The same rate goes on with what it promised.
        if door.per_second != config.handshakes_per_second {
            *door = Door::new(config.handshakes_per_second);
        }
    }

    /// Refuses where the node has no room: told before anything costly is done.
    pub(crate) fn has_room(&self) -> Result<(), Refusal> {
        if self.total() < self.ceilings.node() {
            Ok(())
        } else {
            Err(Refusal::Node)
        }
    }

    /// When someone who is refused comes back: apart from all others who were.
    pub(crate) fn comeback(&self) -> Duration {
        let door = self.door.read().unwrap_or_else(PoisonError::into_inner);
        door.comeback.promise()
    }

    /// Admits a session, until the seat is dropped.
    pub(crate) fn admit(
        self: &Arc<Self>,
        tenant: &TenantId,
        user: &TopicKey,
        address: IpAddr,
    ) -> Result<Seat, Refusal> {
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.ceilings.node() {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Node);
        }
        // From here on the seat gives back what it took, also when a later limit refuses.
        let mut seat = Seat {
            connections: Arc::clone(self),
            tenant: tenant.clone(),
            user: user.clone(),
            address,
            taken: Taken::Node,
        };
        if !grow(&self.addresses, &address, self.ceilings.address()) {
            return Err(Refusal::Address);
        }
        seat.taken = Taken::Address;
        if !self.grow_user(&seat) {
            return Err(Refusal::User);
        }
        seat.taken = Taken::User;
        let mut tenant = self.tenants.entry(seat.tenant.clone()).or_default();
        if tenant.connections >= self.ceilings.tenant() {
            return Err(Refusal::Tenant);
        }
        tenant.connections += 1;
        // Its sessions share the text of the id.
        seat.tenant = tenant.key().clone();
        seat.taken = Taken::All;
        Ok(seat)
    }

    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Users with at least one session.
    pub(crate) fn users(&self) -> usize {
        self.users.len()
    }

    pub(crate) fn tenant(&self, tenant: &TenantId) -> TenantCount {
        self.tenants
            .get(tenant)
            .map_or_else(TenantCount::default, |count| *count)
    }

    /// The key of a user's topic as the user's other sessions have it, where there are any: they share its text.
    pub(crate) fn shared(&self, user: &TopicKey) -> TopicKey {
        self.users
            .get(user)
            .map_or_else(|| user.clone(), |known| known.key().clone())
    }

    fn grow_user(&self, seat: &Seat) -> bool {
        let mut count = self.users.entry(seat.user.clone()).or_default();
        if *count as usize >= self.ceilings.user() {
            return false;
        }
        *count += 1;
        if *count == 1 {
            // Under the user's lock, so that users who come and go at once are counted in the order in which they do.
            self.tenants.entry(seat.tenant.clone()).or_default().users += 1;
        }
        true
    }

    fn shrink_user(&self, seat: &Seat) {
        if let Some(mut count) = self.users.get_mut(&seat.user) {
            *count = count.saturating_sub(1);
            if *count == 0
                && let Some(mut tenant) = self.tenants.get_mut(&seat.tenant)
            {
                tenant.users = tenant.users.saturating_sub(1);
            }
        }
        self.users.remove_if(&seat.user, |_, count| *count == 0);
    }

    fn shrink_tenant(&self, tenant: &TenantId) {
        if let Some(mut count) = self.tenants.get_mut(tenant) {
            count.connections = count.connections.saturating_sub(1);
        }
    }

    fn forget_tenant(&self, tenant: &TenantId) {
        self.tenants
            .remove_if(tenant, |_, count| *count == TenantCount::default());
    }
}

fn grow<K: Hash + Eq + Clone>(counts: &DashMap<K, u32>, key: &K, limit: usize) -> bool {
    let mut count = counts.entry(key.clone()).or_default();
    if *count as usize >= limit {
        return false;
    }
    *count += 1;
    true
}

fn shrink<K: Hash + Eq>(counts: &DashMap<K, u32>, key: &K) {
    if let Some(mut count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
    }
    counts.remove_if(key, |_, count| *count == 0);
}

#[derive(Debug, Clone, Copy)]
enum Taken {
    Node,
    Address,
    User,
    All,
}

/// A session's place in the counts; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    tenant: TenantId,
    user: TopicKey,
    address: IpAddr,
    taken: Taken,
}

impl Seat {
    /// The tenant, its text shared by all sessions of the tenant.
    pub(crate) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Where the client is.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let all = &self.connections;
        if matches!(self.taken, Taken::All) {
            all.shrink_tenant(&self.tenant);
        }
        if matches!(self.taken, Taken::User | Taken::All) {
            all.shrink_user(self);
            all.forget_tenant(&self.tenant);
        }
        if !matches!(self.taken, Taken::Node) {
            shrink(&all.addresses, &self.address);
        }
        all.total.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Name;

    fn connections(node: usize, tenant: usize, user: usize, address: usize) -> Arc<Connections> {
        let config = HubConfig {
            max_connections: node,
            max_connections_per_tenant: tenant,
            max_connections_per_user: user,
            max_connections_per_address: address,
            handshakes_per_second: 1,
            ..HubConfig::for_tests()
        };
        Arc::new(Connections::new(Arc::new(Ceilings::new(&config)), &config))
    }

    #[test]
    fn every_limit_refuses_and_gives_back() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let there = IpAddr::from([127, 0, 0, 2]);
        let tenant = TenantId::new("t").unwrap();
        let user = TopicKey::user(&tenant, &Name::new("u").unwrap());
        for (limits, refusal) in [
            ((1, 9, 9, 9), Refusal::Node),
            ((9, 1, 9, 9), Refusal::Tenant),
            ((9, 9, 1, 9), Refusal::User),
            ((9, 9, 9, 1), Refusal::Address),
        ] {
            let all = connections(limits.0, limits.1, limits.2, limits.3);
            let seat = all.admit(&tenant, &user, here).unwrap();
            assert_eq!(all.admit(&tenant, &user, here).unwrap_err(), refusal);
            assert_eq!(
                all.tenant(&tenant),
                TenantCount {
                    connections: 1,
                    users: 1
                }
            );
            drop(seat);
            assert_eq!(
                (
                    all.total(),
                    all.tenants.len(),
                    all.users.len(),
                    all.addresses.len()
                ),
                (0, 0, 0, 0)
            );
            all.admit(&tenant, &user, there).unwrap();
        }
    }

    #[test]
    fn handshakes_are_a_true_bucket() {
        let all = connections(9, 9, 9, 9);
        assert_eq!(all.take_handshake(), Ok(()));
        assert_eq!(all.take_handshake(), Err(Refusal::Rate));
    }

    #[test]
    fn s3_13_bounds_that_are_raised_let_in_who_was_refused() {
        let all = connections(1, 9, 9, 9);
        let here = IpAddr::from([127, 0, 0, 1]);
        let tenant = TenantId::new("t").unwrap();
        let user = TopicKey::user(&tenant, &Name::new("u").unwrap());
        let _first = all.admit(&tenant, &user, here).unwrap();
        assert_eq!(all.admit(&tenant, &user, here).unwrap_err(), Refusal::Node);
        all.take_handshake().unwrap();
        let mut config = HubConfig {
            max_connections: 2,
            handshakes_per_second: 1,
            ..HubConfig::for_tests()
        };
        let raise = |config: &HubConfig| {
            all.ceilings.set(config);
            all.take_on(config);
        };
        raise(&config);
        let _second = all.admit(&tenant, &user, here).unwrap();
        assert_eq!(all.take_handshake(), Err(Refusal::Rate), "the same rate goes on");
        config.handshakes_per_second = 2;
        raise(&config);
        assert_eq!(all.take_handshake(), Ok(()));
        config.max_connections = 1;
        raise(&config);
        assert_eq!(all.total(), 2, "who is in stays");
        assert_eq!(all.has_room(), Err(Refusal::Node));
    }

    #[test]
    fn a_users_sessions_share_a_key_and_count_as_one_user() {
        let all = connections(9, 9, 9, 9);
        let here = IpAddr::from([127, 0, 0, 1]);
        let tenant = TenantId::new("t").unwrap();
        let user = |user: &str| TopicKey::user(&tenant, &Name::new(user).unwrap());
        let first = all.admit(&tenant, &user("u"), here).unwrap();
        let key = all.shared(&user("u"));
        assert!(std::ptr::eq(key.as_str(), first.user.as_str()));
        let second = all.admit(&tenant, &key, here).unwrap();
        let other = all.admit(&tenant, &user("v"), here).unwrap();
        let stranger = TenantId::new("s").unwrap();
        let key = TopicKey::user(&stranger, &Name::new("u").unwrap());
        let _foreign = all.admit(&stranger, &key, here).unwrap();
        let count = |connections, users| TenantCount { connections, users };
        assert_eq!(all.tenant(&tenant), count(3, 2));
        drop(first);
        assert_eq!(all.tenant(&tenant), count(2, 2));
        drop(second);
        assert_eq!(all.tenant(&tenant), count(1, 1));
        drop(other);
        assert_eq!(all.tenant(&tenant), count(0, 0));
        assert_eq!(all.tenants.len(), 1);
    }
}
