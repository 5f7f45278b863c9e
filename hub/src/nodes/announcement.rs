//! What a node says of itself, and where it has it from.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use common::{ids::TenantId, topic::TopicKey};
use serde::{Deserialize, Serialize};

use crate::{
    limits::{Connections, TenantCount},
    registry::Registry,
    trace::Traces,
    worker::Shared,
};

/// A node as it says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Announcement {
    /// Version of the program.
    #[serde(default)]
    pub(crate) version: String,
    /// `hub.region`.
    #[serde(default)]
    pub(crate) region: String,
    /// When it started (RFC 3339).
    pub(crate) started_at: jiff::Timestamp,
    /// Its bus works: it hears what is published.
    pub(crate) ready: bool,
    /// It stops, and takes no new sessions.
    #[serde(default)]
    pub(crate) draining: bool,
    /// Its load.
    #[serde(default)]
    pub(crate) figures: Figures,
}

/// A node's load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub(crate) struct Figures {
    /// Open sessions.
    pub(crate) sessions: usize,
    /// Users with at least one session.
    pub(crate) users: usize,
    /// Topics with members.
    pub(crate) topics: usize,
    /// Publishes a second that its publish API took, over the last seconds.
    pub(crate) publishes_per_second: f64,
    /// Frames a second handed to sessions, over the last seconds.
    pub(crate) deliveries_per_second: f64,
    /// Resident memory of the process; 0 where it is not known.
    pub(crate) resident_bytes: u64,
}

impl Figures {
    /// Those of several nodes together. A user with sessions on two counts twice.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.users += other.users;
        self.topics += other.topics;
        self.publishes_per_second += other.publishes_per_second;
        self.deliveries_per_second += other.deliveries_per_second;
        self.resident_bytes += other.resident_bytes;
    }
}

/// Where a node looks to say how it is.
#[derive(Debug)]
pub(crate) struct Own {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    registry: Arc<Registry>,
    leaving: Arc<AtomicBool>,
    started_at: jiff::Timestamp,
    rates: std::sync::Mutex<Rates>,
}

#[derive(Debug)]
struct Rates {
    at: Instant,
    published: u64,
    delivered: u64,
    publishes_per_second: f64,
    deliveries_per_second: f64,
}

impl Own {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connections: Arc<Connections>,
        registry: Arc<Registry>,
        leaving: Arc<AtomicBool>,
    ) -> Self {
        Self {
            shared,
            connections,
            registry,
            leaving,
            started_at: jiff::Timestamp::now(),
            rates: std::sync::Mutex::new(Rates {
                at: Instant::now(),
                published: 0,
                delivered: 0,
                publishes_per_second: 0.0,
                deliveries_per_second: 0.0,
            }),
        }
    }

    /// How it is now; the rates since this was asked last are looked at anew.
    pub(crate) fn announce(&self) -> Announcement {
        self.measure();
        self.announcement()
    }

    /// How it is now.
    pub(crate) fn announcement(&self) -> Announcement {
        Announcement {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            region: self.shared.config.region.clone(),
            started_at: self.started_at,
            ready: self.shared.bus.ready(),
            draining: self.leaving.load(Ordering::Acquire),
            figures: self.figures(),
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        let rates = self
            .rates
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Figures {
            sessions: self.connections.total(),
            users: self.connections.users(),
            topics: self.registry.topics(),
            publishes_per_second: rates.publishes_per_second,
            deliveries_per_second: rates.deliveries_per_second,
            resident_bytes: resident_bytes(),
        }
    }

    /// The worker of a user.
    pub(super) fn home(&self, user: &TopicKey) -> usize {
        self.registry.home(user)
    }

    pub(super) fn traces(&self) -> &Arc<Traces> {
        &self.shared.traces
    }

    pub(crate) fn tenant(&self, tenant: &TenantId) -> TenantCount {
        self.connections.tenant(tenant)
    }

    fn measure(&self) {
        let metrics = &self.shared.metrics;
        let (published, delivered) = (metrics.published.get(), metrics.deliveries.get());
        let mut rates = self
            .rates
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let seconds = now.duration_since(rates.at).as_secs_f64().max(0.001);
        let rate =
            |count: u64, before: u64| (count.saturating_sub(before) as f64 / seconds * 10.0).round() / 10.0;
        *rates = Rates {
            at: now,
            publishes_per_second: rate(published, rates.published),
            deliveries_per_second: rate(delivered, rates.delivered),
            published,
            delivered,
        };
    }
}

/// Resident memory of this process, from the kernel.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
