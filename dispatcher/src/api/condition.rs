//! How the dispatcher is, in detail and in numbers (S0).

use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::http::{Caller, Problem};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{problems::store_problem, state::ApiState};
use crate::{
    metrics::Totals,
    model::{Channel, Micros},
    reading::KafkaHealth,
    store::LaneDepth,
};

/// How long the database may take before the answer does without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A part of the queue's bound from which on it is said to be degraded.
const CROWDED: (u64, u64) = (9, 10);

/// When this process began to serve, as far as anybody here knows.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Notes the time from which on the process serves.
pub(super) fn begin() {
    LazyLock::force(&BEGUN);
}

/// How the service is, part by part.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DetailedHealth {
    /// `healthy`, `degraded` (it works, and something needs a look) or `unhealthy`.
    status: &'static str,
    /// Which service this is.
    service: &'static str,
    /// Its version.
    version: &'static str,
    /// RFC 3339.
    timestamp: String,
    /// Since the process began to serve.
    uptime_seconds: u64,
    /// Its parts.
    components: Components,
}

/// The parts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Components {
    /// The database.
    database: DatabaseHealth,
    /// What waits.
    queue: QueueHealth,
    /// The bus to the hubs.
    bus: ComponentHealth,
    /// The channels by name.
    #[schema(value_type = Object)]
    channels: BTreeMap<&'static str, ChannelHealth>,
    /// Events from Kafka.
    kafka: KafkaHealth,
    /// The tenant's open sockets.
    websocket: SocketHealth,
}

/// A part of which only this is known.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct ComponentHealth {
    /// `healthy`, `degraded` or `unhealthy`.
    status: &'static str,
}

/// The database.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct DatabaseHealth {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    /// How long it took to answer.
    latency_ms: Option<u64>,
}

/// What waits.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct QueueHealth {
    /// `healthy`; `degraded` from nine tenths of the bound on; `unknown` without a database.
    status: &'static str,
    /// Pending deliveries.
    waiting: u64,
    /// How many may.
    limit: u64,
    /// By lane.
    #[schema(value_type = Object)]
    lanes: BTreeMap<&'static str, LaneView>,
    /// What is paused for the caller's tenant, so that its deliveries wait, as this process knows it. It makes nothing degraded:
    /// somebody wants it.
    pauses: Vec<PausedView>,
}

/// What is paused. Who did it and why, `GET /api/v1/queue/pauses` tells operators.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PausedView {
    /// The channel; absent: every channel that leaves this system.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'static str>,
    /// Whether it is paused for all tenants.
    all_tenants: bool,
    /// Since when, RFC 3339.
    paused_at: String,
    /// Until when, RFC 3339; absent: until somebody resumes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// One lane.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct LaneView {
    /// Pending deliveries, due or not.
    waiting: u64,
    /// How long the first of them is overdue.
    overdue_seconds: f64,
}

/// A channel.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct ChannelHealth {
    /// `healthy` where it is configured, else `not_configured`.
    status: &'static str,
}

/// Sockets of the caller's tenant.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct SocketHealth {
    /// Open sockets.
    connections: u64,
    /// Users with at least one.
    users_online: u64,
}

fn lanes(depths: &[LaneDepth], now: Micros) -> BTreeMap<&'static str, LaneView> {
    let overdue = |due: Option<Micros>| {
        let micros = due.map_or(0, |due| (now.0 - due.0).max(0));
        Duration::from_micros(micros.unsigned_abs()).as_secs_f64()
    };
    let mut lanes: BTreeMap<_, _> = crate::model::Lane::ALL
        .into_iter()
        .map(|lane| (lane.as_str(), LaneView::default()))
        .collect();
    lanes.extend(depths.iter().map(|depth| {
        let view = LaneView {
            waiting: depth.depth,
            overdue_seconds: overdue(depth.oldest_due),
        };
        (depth.lane.as_str(), view)
    }));
    lanes
}

fn pauses(state: &ApiState, caller: &Caller) -> Vec<PausedView> {
    let known = state.service.operations().known_pauses();
    let mine = known
        .holding(Micros::now())
        .filter(|pause| pause.concerns(&caller.tenant));
    mine.map(|pause| PausedView {
        channel: pause.channel.map(Channel::as_str),
        all_tenants: pause.tenant.is_none(),
        paused_at: pause.paused_at.rfc3339(),
        until: pause.ends_at.map(Micros::rfc3339),
    })
    .collect()
}

/// Check the service in detail
///
/// 200, also where it is degraded; 503 where it is unhealthy: the database does not answer. Any good token may ask.
#[utoipa::path(
    get, path = "/api/v1/health/detailed", tag = "health",
    responses((status = 200, body = DetailedHealth), (status = 503, description = "The same, `unhealthy`"))
)]
pub(crate) async fn detailed(State(state): State<ApiState>, caller: Caller) -> Response {
    let begun = Instant::now();
    let depths = tokio::time::timeout(PATIENCE, state.store().queue_depths()).await;
    let depths = depths.ok().and_then(Result::ok);
    let latency = begun.elapsed();
    let live = state.live.of(&caller.tenant).await;
    let limit = state.service.settings().current().config.limits.queued_max;
    let waiting = depths.iter().flatten().map(|lane| lane.depth).sum::<u64>();
    let crowded = waiting.saturating_mul(CROWDED.1) >= limit.saturating_mul(CROWDED.0);
    let bus = state.service.bus_is_ready();
    let kafka = state.service.reading().health();
    let status = match (&depths, crowded || !bus || kafka.status == "degraded") {
        (None, _) => "unhealthy",
        (Some(_), true) => "degraded",
        (Some(_), false) => "healthy",
    };
    let channels = Channel::ALL.into_iter().map(|channel| {
        let configured = !channel.is_external() || state.service.is_configured(channel);
        let status = if configured { "healthy" } else { "not_configured" };
        (channel.as_str(), ChannelHealth { status })
    });
    let view = DetailedHealth {
        status,
        service: "carillon",
        version: env!("CARGO_PKG_VERSION"),
        timestamp: Micros::now().rfc3339(),
        uptime_seconds: BEGUN.elapsed().as_secs(),
        components: Components {
            database: DatabaseHealth {
                status: if depths.is_some() { "healthy" } else { "unhealthy" },
                latency_ms: depths
                    .is_some()
                    .then(|| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX)),
            },
            queue: QueueHealth {
                status: match (&depths, crowded) {
                    (None, _) => "unknown",
                    (Some(_), true) => "degraded",
                    (Some(_), false) => "healthy",
                },
                waiting,
                limit,
                lanes: lanes(depths.as_deref().unwrap_or_default(), Micros::now()),
                pauses: pauses(&state, &caller),
            },
            bus: ComponentHealth {
                status: if bus { "healthy" } else { "degraded" },
            },
            channels: channels.collect(),
            kafka,
            websocket: SocketHealth {
                connections: live.connections,
                users_online: live.users_online,
            },
        },
    };
    let code = match status {
        "unhealthy" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    (code, Json(view)).into_response()
}

/// Numbers of this process and of the queue.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SystemMetrics {
    /// RFC 3339.
    timestamp: String,
    /// Since the process began to serve.
    uptime_seconds: u64,
    /// The process, where the operating system tells.
    process: ProcessView,
    /// What this process did since it began, of all tenants.
    notifications: Totals,
    /// What waits, of all processes and tenants.
    #[schema(value_type = Object)]
    queue: BTreeMap<&'static str, LaneView>,
}

/// The process.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct ProcessView {
    /// Its number.
    pid: u32,
    /// Memory that it has in use.
    resident_bytes: Option<u64>,
    /// Its threads.
    threads: Option<u64>,
}

impl ProcessView {
    fn of(status: &str) -> Self {
        let number = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Self {
            pid: std::process::id(),
            resident_bytes: number("VmRSS:").map(|kib| kib * 1024),
            threads: number("Threads:"),
        }
    }
}

/// Get system metrics
///
/// As JSON, for people and small scripts; Prometheus reads `/metrics`. Needs the scope `metrics`.
#[utoipa::path(
    get, path = "/api/v1/health/metrics", tag = "health",
    responses((status = 200, body = SystemMetrics), (status = 503, body = Problem))
)]
pub(crate) async fn metrics(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<Json<SystemMetrics>, Problem> {
    caller.require("metrics")?;
    let depths = state.store().queue_depths().await.map_err(store_problem)?;
    // Another system than Linux has no such file.
    let status = tokio::fs::read_to_string("/proc/self/status")
        .await
        .unwrap_or_default();
    Ok(Json(SystemMetrics {
        timestamp: Micros::now().rfc3339(),
        uptime_seconds: BEGUN.elapsed().as_secs(),
        process: ProcessView::of(&status),
        notifications: state.service.totals(),
        queue: lanes(&depths, Micros::now()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_read_from_what_linux_says() {
        let view = ProcessView::of("Name:\tcarillon\nVmRSS:\t   2048 kB\nThreads:\t7\n");
        assert_eq!((view.resident_bytes, view.threads), (Some(2048 * 1024), Some(7)));
        let view = ProcessView::of("");
        assert_eq!((view.resident_bytes, view.threads), (None, None));
    }
}
