//! Chains. They are locked after deliveries; who holds one takes deliveries only where nobody else holds them.

/// What a chain is read as.
macro_rules! chain {
    () => {
        "c.id, c.notification_id, c.tenant, c.lane, c.chain"
    };
}

/// Takes `[id, notification, tenant, user, lane, open, next_at, untold, chain]`.
pub(in crate::store) const INSERT_CHAINS: &str = "
INSERT INTO chains (id, notification_id, tenant, \"user\", lane, open, next_at, untold, chain, updated_at)
SELECT n.*, $10::bigint FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
  $7::bigint[], $8::bigint[], $9::text[]) AS n";

/// Takes `[id, open, next_at, untold, chain]`; the rows are held.
pub(in crate::store) const PUT_CHAINS: &str = "
UPDATE chains c SET open = s.open, next_at = s.next_at, untold = s.untold, chain = s.chain, updated_at = $6::bigint
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) AS s (id, open, next_at, untold, chain)
WHERE c.id = s.id";

pub(in crate::store) const CHAINS_BY_ID: &str = concat!(
    "SELECT ",
    chain!(),
    " FROM (SELECT j.id FROM unnest($1::uuid[]) AS j (id) ORDER BY j.id) j
CROSS JOIN LATERAL (SELECT * FROM chains c WHERE c.id = j.id FOR UPDATE) c"
);

/// Open ones of a reader: `$1` tenant, `$2` user, `$3` notifications.
pub(in crate::store) const CHAINS_OF_READER: &str = concat!(
    "WITH found AS MATERIALIZED (
  SELECT c.id FROM unnest($3::uuid[]) AS j (id) JOIN chains c ON c.notification_id = j.id AND c.\"user\" = $2::text
  WHERE c.tenant = $1::text AND coalesce(c.open, 0) = 1 ORDER BY c.id)
SELECT ",
    chain!(),
    " FROM found CROSS JOIN LATERAL (SELECT * FROM chains c WHERE c.id = found.id AND c.open = 1 FOR UPDATE) c"
);

/// Open ones of a reader, of notifications up to a position of its own key: `$1` tenant, `$2` user, `$3` key, `$4` position.
pub(in crate::store) const CHAINS_UP_TO: &str = concat!(
    "WITH found AS MATERIALIZED (
  SELECT c.id FROM chains c JOIN inbox i ON i.notification_id = c.notification_id AND i.key = $3::text
  WHERE c.tenant = $1::text AND c.\"user\" = $2::text AND c.open = 1 AND i.position <= $4::bigint ORDER BY c.id)
SELECT ",
    chain!(),
    " FROM found CROSS JOIN LATERAL (SELECT * FROM chains c WHERE c.id = found.id AND c.open = 1 FOR UPDATE) c"
);

/// Open ones of a notification.
pub(in crate::store) const CHAINS_OF_NOTIFICATION: &str = concat!(
    "WITH found AS MATERIALIZED (
  SELECT c.id FROM chains c WHERE c.notification_id = $1::uuid AND coalesce(c.open, 0) = 1 ORDER BY c.id)
SELECT ",
    chain!(),
    " FROM found CROSS JOIN LATERAL (SELECT * FROM chains c WHERE c.id = found.id AND c.open = 1 FOR UPDATE) c"
);

pub(in crate::store) const SHOWN_CHAINS: &str =
    "SELECT c.chain FROM chains c WHERE c.notification_id = $1::uuid ORDER BY c.\"user\" LIMIT $2::bigint";

/// Another dispatcher that looks at the same time finds the next ones.
pub(in crate::store) const DUE_CHAINS: &str = concat!(
    "SELECT ",
    chain!(),
    " FROM chains c WHERE c.next_at <= $1::bigint ORDER BY c.next_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED"
);

pub(in crate::store) const NEXT_STEP: &str = "SELECT min(next_at) FROM chains WHERE next_at IS NOT NULL";

pub(in crate::store) const UNTOLD_CHAINS: &str = concat!(
    "SELECT ",
    chain!(),
    " FROM chains c WHERE c.untold = 1 ORDER BY c.updated_at LIMIT $1::bigint"
);

/// Takes `[id, state, reason]`; only what waits in the queue and is in nobody's hands: who has it looks at the chain when it
/// comes back.
pub(in crate::store) const STOP_DELIVERIES: &str = "
WITH held AS MATERIALIZED (
  SELECT d.id, s.state, s.reason
  FROM (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) AS s (id, state, reason) ORDER BY id) s
  CROSS JOIN LATERAL (SELECT d.id FROM deliveries d
    WHERE d.id = s.id AND coalesce(d.state, '') = 'pending' FOR UPDATE SKIP LOCKED) d
), gone AS (
  DELETE FROM deliveries d USING held WHERE d.id = held.id AND d.id = ANY (ARRAY(SELECT h.id FROM held h))
  RETURNING d.id, d.notification_id, d.tenant, d.channel, d.\"user\", d.address, d.lane, held.state, held.reason,
    d.due_at, d.token, d.max_attempts
)
INSERT INTO delivery_history (id, notification_id, tenant, channel, \"user\", address, lane, state, reason, due_at,
  lease_until, token, max_attempts, worker, updated_at)
SELECT id, notification_id, tenant, channel, \"user\", address, lane, state, reason, due_at, NULL, token, max_attempts,
  NULL, $4::bigint FROM gone
RETURNING id";

/// Frames that arrived: takes `[notification, tenant, user]`.
pub(in crate::store) const RECEIVED: &str = "
WITH found AS MATERIALIZED (
  SELECT d.id FROM unnest($1::uuid[], $2::text[], $3::text[]) AS s (id, tenant, username)
  CROSS JOIN LATERAL (SELECT d.id FROM deliveries d
    WHERE d.notification_id = s.id AND d.\"user\" = s.username AND d.tenant = s.tenant AND d.channel = 'realtime'
    OFFSET 0) d
  ORDER BY d.id
), held AS MATERIALIZED (
  SELECT d.id FROM found CROSS JOIN LATERAL (SELECT d.id FROM deliveries d WHERE d.id = found.id FOR UPDATE) d
), gone AS (
  DELETE FROM deliveries d WHERE d.id = ANY (ARRAY(SELECT h.id FROM held h))
  RETURNING d.id, d.notification_id, d.tenant, d.channel, d.\"user\", d.address, d.lane, d.due_at, d.token, d.max_attempts
)
INSERT INTO delivery_history (id, notification_id, tenant, channel, \"user\", address, lane, state, reason, due_at,
  lease_until, token, max_attempts, worker, updated_at)
SELECT id, notification_id, tenant, channel, \"user\", address, lane, 'delivered', NULL, due_at, NULL, token, max_attempts,
  NULL, $4::bigint FROM gone
RETURNING id, token, tenant";

/// Chains that ended before `$1`, at most `$2`.
pub(in crate::store) const FORGET_CHAINS: &str = "
WITH old AS MATERIALIZED (
  SELECT c.id FROM chains c WHERE c.open = 0 AND c.updated_at < $1::bigint
  ORDER BY c.updated_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED)
DELETE FROM chains c USING old WHERE c.id = old.id";

/// Deliveries of a notification that were taken back.
pub(in crate::store) const CANCELLED: &str =
    "SELECT d.id FROM all_deliveries d WHERE d.notification_id = $1::uuid AND d.state = 'cancelled'";
