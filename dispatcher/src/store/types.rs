//! What goes into the store and comes out of it, beside the model.

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use common::ids::{DeliveryId, Name, NotificationId, TenantId};
use secrecy::SecretString;

use crate::model::{Chain, Changes, Channel, Claimed, Contact, Cursor, GroupJob, Lane, Micros, Pauses};

/// Why the store did not do it. Nothing of the operation was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Busy, full, closed or away: to be answered with 503 and `Retry-After`.
    #[error("the store is not available: {reason}")]
    Unavailable {
        /// For the log.
        reason: String,
    },
    /// A row that this version cannot read, or a database that it cannot use.
    #[error("the store cannot be used: {reason}")]
    Corrupt {
        /// For the log.
        reason: String,
    },
    /// A unique name is taken.
    #[error("{0} is taken")]
    Conflict(&'static str),
    /// Another transaction was faster, and nothing was done; done again it sees what that one did. The writer does so
    /// itself, a few times.
    #[error("another transaction was faster; try again")]
    Again,
}

/// Where the store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// An SQLite file; made when it does not exist.
    File(PathBuf),
    /// A PostgreSQL database.
    Server(Server),
}

impl fmt::Display for Place {
    /// For people; without what has to stay secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(_) => f.write_str("of database.url"),
        }
    }
}

/// A PostgreSQL database, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Server {
    /// `postgres://user:password@host:port/database`, with the parameters that sqlx knows, such as `sslmode`.
    pub url: SecretString,
    /// A replica that answers readers while the database is away.
    pub replica: Option<SecretString>,
    /// Connections that accept, and that write what readers do. Each commits groups of its own.
    pub connections: u32,
    /// Connections of the queue.
    pub queue_connections: u32,
    /// A statement that takes longer is ended by the server.
    pub statement_timeout: Duration,
    /// A lock that is waited for longer is given up.
    pub lock_timeout: Duration,
    /// How long a connection may take to be made, and an answer to come beyond the statement's own time.
    pub connect_timeout: Duration,
    /// Who asks for a request gives up after it: the database is away.
    pub away_after: Duration,
    /// A pooler stands in between that gives every transaction another connection: nothing is prepared for longer than
    /// its use, settings are made in every transaction, and nobody listens for hints.
    pub pooler: bool,
}

impl Server {
    /// The defaults, for a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            replica: None,
            connections: 3,
            queue_connections: 2,
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            away_after: Duration::from_secs(2),
            pooler: false,
        }
    }
}

/// Where the store is, and its bounds.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The database.
    pub place: Place,
    /// Read-only connections.
    pub read_connections: u32,
    /// Operations of one transaction at the most.
    pub group_max: usize,
    /// Operations that may wait for the writer; further callers wait outside.
    pub queue_max: usize,
    /// How long a caller waits for the writer before it is told that the store is not available.
    pub wait_max: Duration,
    /// How far back a user who was never seen before sees what its roles, stores and tenant got.
    pub backfill: Duration,
    /// Entries of the change feed are kept at least this long.
    pub feed_retention: Duration,
    /// What is older is forgotten: rows of inboxes, notifications, deliveries, attempts, receipts. Zero keeps all.
    pub retention: Duration,
    /// Entries of the audit log that are older are forgotten. Zero keeps all.
    pub audit_retention: Duration,
    /// How long it is known which events were taken in.
    pub event_retention: Duration,
}

impl StoreConfig {
    /// The defaults, for an SQLite file at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::File(path.into()))
    }

    /// The defaults, for a PostgreSQL database.
    #[must_use]
    pub fn server(url: impl Into<String>) -> Self {
        Self::at(Place::Server(Server::new(url)))
    }

    /// The defaults, for a database.
    #[must_use]
    pub fn at(place: Place) -> Self {
        Self {
            place,
            read_connections: 4,
            group_max: 512,
            queue_max: 4096,
            wait_max: Duration::from_secs(5),
            backfill: Duration::from_hours(30 * 24),
            feed_retention: Duration::from_hours(30 * 24),
            retention: Duration::ZERO,
            audit_retention: Duration::ZERO,
            event_retention: Duration::from_hours(7 * 24),
        }
    }
}

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// Who asks, for the record.
    pub worker: String,
    /// From which lane.
    pub lane: Lane,
    /// How many at the most.
    pub limit: u32,
    /// Which channels; empty for all.
    pub channels: Vec<Channel>,
    /// The present.
    pub now: Micros,
    /// Until when the claimed are held.
    pub lease_until: Micros,
    /// Whose turn it is, and who has none.
    pub rules: ClaimRules,
    /// Whether what can be tried has its attempt begun with the claim.
    pub begin: bool,
}

/// Of whom may be claimed. The default is of everybody, in turn.
#[derive(Debug, Clone, Default)]
pub struct ClaimRules {
    /// The tenant whose turn was the last; the next one after it is the first now.
    pub after: Option<TenantId>,
    /// What has no turn.
    pub pauses: Arc<Pauses>,
    /// How many deliveries a tenant may hold at once; none: as many as there is room for.
    pub tenant_max: Option<usize>,
    /// How many they hold.
    pub held: HashMap<TenantId, usize>,
}

/// The record of an attempt, committed before the provider is called.
#[derive(Debug, Clone)]
pub struct AttemptStart {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// The token of the claim.
    pub token: i64,
    /// From 1.
    pub number: u32,
    /// When.
    pub started_at: Micros,
    /// By which provider of the channel.
    pub provider: Option<String>,
}

impl AttemptStart {
    /// The next attempt of what was claimed.
    pub(crate) fn of(claimed: &Claimed, now: Micros) -> Self {
        Self {
            delivery: claimed.id,
            token: claimed.token,
            number: claimed.attempts + 1,
            started_at: now,
            provider: None,
        }
    }
}

/// What becomes of a delivery whose attempt has a start and no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnknown {
    /// It is tried again.
    Resend,
    /// It is dead with reason `unknown` until somebody decides.
    Hold,
}

/// What a rescue found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Deliveries whose lease ran out.
    pub released: u64,
    /// Those among them with an attempt that has a start and no end.
    pub unknown: u64,
    /// Groups' fan-outs whose lease was taken back before its end.
    pub jobs: u64,
}

/// What is waiting in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneDepth {
    /// The lane.
    pub lane: Lane,
    /// Pending deliveries, due or not.
    pub depth: u64,
    /// The due time of the one that is due first.
    pub oldest_due: Option<Micros>,
}

/// A group's fan-out that this worker holds.
#[derive(Debug, Clone)]
pub struct JobClaim {
    /// The job is named by its notification.
    pub notification: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// The fencing token of this claim.
    pub token: i64,
    /// Whom and by what.
    pub job: GroupJob,
    /// The notification's lane.
    pub lane: Lane,
    /// When its deliveries are due.
    pub visible_at: Micros,
    /// Not sent after this.
    pub expires_at: Option<Micros>,
    /// Where the last page ended; opaque.
    pub cursor: Option<String>,
}

/// One page of a group's recipients.
#[derive(Debug, Clone)]
pub struct JobPage {
    /// Those of the page's contacts that the audience means.
    pub recipients: Vec<(TenantId, Name, Contact)>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<String>,
}

/// What a reader does with notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// A device has it.
    Delivered,
    /// It was on the screen.
    Seen,
    /// Read.
    Read,
    /// Acted upon, and so read.
    Acknowledged,
    /// Unread again; overrides an earlier or later look at the watermark.
    Unread,
    /// Put away; no longer put off.
    Archived,
    /// Taken back out.
    Unarchived,
    /// Put off: out of the list and the count until a time, then there again as it was; no longer put away.
    Snoozed(Micros),
    /// Back, read or unread as it was, where it was put off until this time or before.
    Woken(Micros),
    /// Gone for this reader.
    Deleted,
}

/// A chain of which a channel failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedOver {
    /// Whose.
    pub tenant: TenantId,
    /// Which notification.
    pub notification: NotificationId,
    /// As it stands.
    pub chain: Chain,
}

/// What a mark changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marked {
    /// Visible to the reader and really changed.
    pub changed: Vec<NotificationId>,
    /// The reader's unread count after it.
    pub unread: u64,
}

/// How far a read-all reaches.
#[derive(Debug, Clone)]
pub(super) enum Reach {
    /// Everything that there is.
    Now,
    /// Up to a position of each key.
    Cursor(Cursor),
    /// What was visible at a time.
    Time(Micros),
}

/// What a read-all changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadAll {
    /// So many were unread and are read.
    pub count: u64,
    /// The reader's unread count after it.
    pub unread: u64,
}

/// The answer of the change feed.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangesResult {
    /// What happened since.
    Changes(Changes),
    /// The cursor is older than what is kept, or of another database: read the inbox again (410, code `resync`).
    Resync,
}

/// Sums of a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantStats {
    /// Notifications accepted.
    pub created: u64,
    /// Deliveries that a channel took.
    pub sent: u64,
    /// Deliveries that are dead or expired.
    pub failed: u64,
    /// What all its users together have not read: of their own, and for those who came, of their newest token's roles,
    /// stores, tenant and everyone. Rows of expressions are not in it.
    pub unread: u64,
}
