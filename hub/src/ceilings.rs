//! Bounds that can be changed while the hub runs. What was let in before stays.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::config::HubConfig;

/// Bounds of sessions, each read where it is looked at: no two of them depend on one another.
#[derive(Debug)]
pub(crate) struct Ceilings {
    node: AtomicUsize,
    tenant: AtomicUsize,
    user: AtomicUsize,
    address: AtomicUsize,
    topics: AtomicUsize,
    inbound: AtomicU32,
}

impl Ceilings {
    pub(crate) fn new(config: &HubConfig) -> Self {
        Self {
            node: AtomicUsize::new(config.max_connections),
            tenant: AtomicUsize::new(config.max_connections_per_tenant),
            user: AtomicUsize::new(config.max_connections_per_user),
            address: AtomicUsize::new(config.max_connections_per_address),
            topics: AtomicUsize::new(config.max_topics),
            inbound: AtomicU32::new(config.inbound_per_second),
        }
    }

    /// Takes on what a configuration says.
    pub(crate) fn set(&self, config: &HubConfig) {
        self.node.store(config.max_connections, Ordering::Relaxed);
        self.tenant
            .store(config.max_connections_per_tenant, Ordering::Relaxed);
        self.user
            .store(config.max_connections_per_user, Ordering::Relaxed);
        self.address
            .store(config.max_connections_per_address, Ordering::Relaxed);
        self.topics.store(config.max_topics, Ordering::Relaxed);
        self.inbound.store(config.inbound_per_second, Ordering::Relaxed);
    }

    /// Sessions of this node.
    pub(crate) fn node(&self) -> usize {
        self.node.load(Ordering::Relaxed)
    }

    /// Sessions of a tenant.
    pub(crate) fn tenant(&self) -> usize {
        self.tenant.load(Ordering::Relaxed)
    }

    /// Sessions of a user.
    pub(crate) fn user(&self) -> usize {
        self.user.load(Ordering::Relaxed)
    }

    /// Sessions from an address.
    pub(crate) fn address(&self) -> usize {
        self.address.load(Ordering::Relaxed)
    }

    /// Explicit topics of a session.
    pub(crate) fn topics(&self) -> usize {
        self.topics.load(Ordering::Relaxed)
    }

    /// Messages a second that a session may send.
    pub(crate) fn inbound(&self) -> u32 {
        self.inbound.load(Ordering::Relaxed)
    }
}
