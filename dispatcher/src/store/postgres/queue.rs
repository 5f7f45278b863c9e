//! The queue.
//!
//! What writes rows that it has locked in `held` names them as one list, also where it joins them for their values. A plan
//! that was made while `deliveries` was nearly empty takes the table for one row, walks the whole of it and compares each row
//! with each that is held; with the list it enters the primary key by it, whatever the statistics say. For the same reason a
//! notification's deliveries are locked in the order of `id::text`, which is that of the ids, and which the walk does not have.

/// No row has this id; it costs the same whatever the table holds.
pub(in crate::store) const ANSWERS: &str = "
SELECT count(*)::bigint FROM deliveries WHERE id = '00000000-0000-0000-0000-000000000000'";

/// Who has work that is due: the first tenant of each channel `$3` in lane `$1` after `$4`, and from each the next one.
pub(in crate::store) const FLOWS: &str = "
WITH RECURSIVE s (channel, tenant, due_at) AS (
  SELECT j.channel, h.tenant, h.due_at FROM unnest($3::text[] COLLATE \"C\") AS j (channel) CROSS JOIN LATERAL (
    SELECT d.tenant, d.due_at FROM deliveries d
    WHERE d.state = 'pending' AND d.lane = $1::bigint AND d.channel = j.channel AND d.tenant > $4::text COLLATE \"C\"
    ORDER BY d.tenant, d.due_at LIMIT 1) h
  UNION ALL
  SELECT s.channel, h.tenant, h.due_at FROM s CROSS JOIN LATERAL (
    SELECT d.tenant, d.due_at FROM deliveries d
    WHERE d.state = 'pending' AND d.lane = $1::bigint AND d.channel = s.channel AND d.tenant > s.tenant
    ORDER BY d.tenant, d.due_at LIMIT 1) h)
SELECT channel, tenant FROM s WHERE due_at <= $2::bigint LIMIT $5::bigint";

/// Takes `[channel, tenant, from]`, and of each the first `$6` that are due, in the order of the index; what another worker is
/// about to take is passed over. Who is under the first lease of all has no attempts.
pub(in crate::store) const CLAIM: &str = "
WITH c AS MATERIALIZED (
  SELECT p.id FROM unnest($3::text[], $4::text[], $5::bigint[]) AS f (channel, tenant, due_from) CROSS JOIN LATERAL (
    SELECT d.id FROM deliveries d
    WHERE d.state = 'pending' AND d.lane = $1::bigint AND d.channel = f.channel AND d.tenant = f.tenant
      AND d.due_at <= $2::bigint AND d.due_at >= f.due_from
    ORDER BY d.due_at, d.id LIMIT $6::bigint FOR UPDATE SKIP LOCKED) p)
UPDATE deliveries d SET state = 'running', token = d.token + 1, lease_until = $7::bigint, worker = $8::text,
  updated_at = $2::bigint
WHERE d.id = ANY (ARRAY(SELECT c.id FROM c))
RETURNING d.id, d.notification_id, d.channel, d.\"user\", d.address, d.due_at, d.token, d.max_attempts,
  CASE WHEN d.token = 1 THEN 0 ELSE
    (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.id) END, d.tenant,
  (SELECT e.content FROM delivery_edits e WHERE e.delivery_id = d.id)";

/// When the one after so many expires of those that do after `$1` and up to `$2`.
pub(in crate::store) const EXPIRY_STEP: &str = "
SELECT expires_at FROM notifications WHERE expires_at > $1::bigint AND expires_at <= $2::bigint
ORDER BY expires_at LIMIT 1 OFFSET $3::bigint";

/// Takes up to `$5` of lane `$1` whose notification expired after `$2`, up to `$3`, whenever they are due.
pub(in crate::store) const CLAIM_EXPIRED: &str = "
WITH c AS MATERIALIZED (
  SELECT p.id FROM notifications n CROSS JOIN LATERAL (
    SELECT d.id FROM deliveries d
    WHERE d.notification_id = n.id AND d.lane = $1::bigint AND coalesce(d.state, '') = 'pending'
      AND d.channel <> 'in_app'
    ORDER BY d.id::text LIMIT $5::bigint FOR UPDATE SKIP LOCKED) p
  WHERE n.expires_at > $2::bigint AND n.expires_at <= $3::bigint LIMIT $5::bigint)
UPDATE deliveries d SET state = 'running', token = d.token + 1, lease_until = $4::bigint, worker = $6::text,
  updated_at = $7::bigint
WHERE d.id = ANY (ARRAY(SELECT c.id FROM c))
RETURNING d.id, d.notification_id, d.channel, d.\"user\", d.address, d.due_at, d.token, d.max_attempts,
  CASE WHEN d.token = 1 THEN 0 ELSE
    (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.id) END, d.tenant,
  (SELECT e.content FROM delivery_edits e WHERE e.delivery_id = d.id)";

pub(in crate::store) const CLAIMED_NOTIFICATIONS: &str = "
SELECT n.id, n.expires_at, n.created_at, n.visible_at, n.content, n.audience,
  CASE WHEN n.withdrawn = 1 OR n.cancelled_at IS NOT NULL THEN 1 ELSE 0 END::bigint
FROM unnest($1::uuid[]) AS j (id) JOIN notifications n ON n.id = j.id";

/// Takes `[delivery, token, number, started_at, provider]`; only for leases that still hold, and that hold until the
/// attempt is on record: a rescue at the same time waits, or is waited for.
pub(in crate::store) const BEGIN_ATTEMPTS: &str = "
WITH held AS MATERIALIZED (
  SELECT d.id, b.number, d.token, b.provider, b.started_at
  FROM (SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])
    AS b (id, token, number, started_at, provider) ORDER BY id) b
  CROSS JOIN LATERAL (SELECT d.id, d.token FROM deliveries d
    WHERE d.id = b.id AND d.token = b.token AND d.state = 'running' FOR NO KEY UPDATE) d)
INSERT INTO attempts (delivery_id, number, token, provider, started_at)
SELECT * FROM held
ON CONFLICT (delivery_id, number) DO NOTHING
RETURNING delivery_id, token";

/// As [`BEGIN_ATTEMPTS`], for leases that this transaction took.
pub(in crate::store) const BEGIN_CLAIMED: &str = "
INSERT INTO attempts (delivery_id, number, token, provider, started_at)
SELECT b.id, b.number, b.token, b.provider, b.started_at
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) AS b (id, token, number, started_at, provider)
ON CONFLICT (delivery_id, number) DO NOTHING
RETURNING delivery_id, token";

/// Takes `[delivery, token, state, due_at, reason]`. What was withdrawn meanwhile is not tried again: `STOP_PENDING`
/// leaves its mark in the row.
pub(in crate::store) const SETTLE: &str = concat!(
    "
WITH held AS MATERIALIZED (
  SELECT d.id, s.reason, coalesce(s.due_at, d.due_at) AS due_at,
    CASE WHEN s.state = 'pending' AND (coalesce(d.reason, '') IN ('withdrawn', 'cancelled') OR EXISTS
      (SELECT 1 FROM notifications n WHERE n.id = d.notification_id
        AND (n.withdrawn = 1 OR n.cancelled_at IS NOT NULL)))
      THEN 'cancelled' ELSE s.state END AS state
  FROM (SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::text[])
    AS s (id, token, state, due_at, reason) ORDER BY id) s
  CROSS JOIN LATERAL (SELECT d.id, d.notification_id, d.reason, d.due_at FROM deliveries d
    WHERE d.id = s.id AND d.token = s.token AND d.state = 'running' FOR UPDATE) d
), again AS (
  UPDATE deliveries d SET state = held.state, due_at = held.due_at, reason = held.reason, lease_until = NULL,
    worker = NULL, updated_at = $6::bigint
  FROM held WHERE d.id = held.id
    AND d.id = ANY (ARRAY(SELECT h.id FROM held h)) AND held.state NOT IN ",
    terminal!(),
    "
  RETURNING d.id, d.token, d.tenant, d.state
), gone AS (
  DELETE FROM deliveries d USING held WHERE d.id = held.id
    AND d.id = ANY (ARRAY(SELECT h.id FROM held h)) AND held.state IN ",
    terminal!(),
    "
  RETURNING d.id, d.notification_id, d.tenant, d.channel, d.\"user\", d.address, d.lane, held.state, held.reason,
    held.due_at, d.token, d.max_attempts
), ended AS (
  INSERT INTO delivery_history (",
    columns!(),
    ")
  SELECT id, notification_id, tenant, channel, \"user\", address, lane, state, reason, due_at, NULL, token, max_attempts,
    NULL, $6::bigint FROM gone
  RETURNING id, token, tenant, state
)
SELECT id, token, tenant, state FROM again UNION ALL SELECT id, token, tenant, state FROM ended"
);

/// Takes `[delivery, token, outcome, reason, response]`; ends the attempt that was begun under the token and is open. Who
/// ends it holds the delivery's row.
pub(in crate::store) const END_ATTEMPTS: &str = "
UPDATE attempts a SET finished_at = $6::bigint, outcome = s.outcome, reason = s.reason, response = s.response
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[]) AS s (id, token, outcome, reason, response)
WHERE a.delivery_id = s.id AND a.token = s.token AND a.finished_at IS NULL AND a.outcome IS NULL";

/// Takes `[delivery, token, until]`.
pub(in crate::store) const EXTEND: &str = "
WITH held AS MATERIALIZED (
  SELECT d.id, e.until
  FROM (SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS e (id, token, until) ORDER BY id) e
  CROSS JOIN LATERAL (SELECT d.id FROM deliveries d
    WHERE d.id = e.id AND d.token = e.token AND d.state = 'running' FOR NO KEY UPDATE) d)
UPDATE deliveries d SET lease_until = held.until FROM held WHERE d.id = held.id
  AND d.id = ANY (ARRAY(SELECT h.id FROM held h))
RETURNING d.id, d.token";

/// Gives leases `[delivery, token]` back; an attempt that was begun under one does not count against the limit.
pub(in crate::store) const RELEASE: &str = concat!(
    "
WITH held AS MATERIALIZED (
  SELECT d.id, CASE WHEN coalesce(d.reason, '') IN ('withdrawn', 'cancelled') OR EXISTS
      (SELECT 1 FROM notifications n WHERE n.id = d.notification_id
        AND (n.withdrawn = 1 OR n.cancelled_at IS NOT NULL))
    THEN 'cancelled' ELSE 'pending' END AS state,
    d.max_attempts + (SELECT count(*) FROM attempts a WHERE a.delivery_id = d.id AND a.token = d.token
      AND a.finished_at IS NULL AND a.outcome IS NULL) AS max_attempts
  FROM (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS s (id, token) ORDER BY id) s
  CROSS JOIN LATERAL (SELECT d.id, d.notification_id, d.reason, d.token, d.max_attempts FROM deliveries d
    WHERE d.id = s.id AND d.token = s.token AND d.state = 'running' FOR UPDATE) d
), again AS (
  UPDATE deliveries d SET state = 'pending', max_attempts = held.max_attempts, lease_until = NULL, worker = NULL,
    updated_at = $3::bigint
  FROM held WHERE d.id = held.id AND d.id = ANY (ARRAY(SELECT h.id FROM held h))
    AND held.state = 'pending'
  RETURNING d.id, d.token
), gone AS (
  DELETE FROM deliveries d USING held WHERE d.id = held.id AND d.id = ANY (ARRAY(SELECT h.id FROM held h))
    AND held.state = 'cancelled'
  RETURNING d.id, d.notification_id, d.tenant, d.channel, d.\"user\", d.address, d.lane, d.reason, d.due_at, d.token,
    held.max_attempts
), ended AS (
  INSERT INTO delivery_history (",
    columns!(),
    ")
  SELECT id, notification_id, tenant, channel, \"user\", address, lane, 'cancelled', reason, due_at, NULL, token,
    max_attempts, NULL, $3::bigint FROM gone
  RETURNING id, token
)
SELECT id, token FROM again UNION ALL SELECT id, token FROM ended"
);

/// Leases that ran out, with the number of attempts and whether the last one is open. They are locked: what their worker
/// settles or extends meanwhile is passed over, and what is answered here is this transaction's to settle.
pub(in crate::store) const EXPIRED_LEASES: &str = "
WITH lost AS MATERIALIZED (
  SELECT d.id, d.token, d.channel, d.max_attempts FROM deliveries d
  WHERE d.state = 'running' AND d.lease_until < $1::bigint
  ORDER BY d.id LIMIT $2::bigint FOR UPDATE SKIP LOCKED)
SELECT l.id, l.token, l.channel, l.max_attempts,
  (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = l.id),
  (SELECT count(*) FROM attempts a
    WHERE a.delivery_id = l.id AND a.token = l.token AND a.finished_at IS NULL AND a.outcome IS NULL)
FROM lost l";

/// An attempt that a rescue found open: its end is not known, and no end time is made up.
pub(in crate::store) const MARK_UNKNOWN: &str = "
UPDATE attempts a SET outcome = 'unknown'
FROM unnest($1::uuid[], $2::bigint[]) AS s (id, token)
WHERE a.delivery_id = s.id AND a.token = s.token AND a.finished_at IS NULL AND a.outcome IS NULL";

/// From lane to lane, channel `$1` to channel, tenant to tenant: the first of each.
pub(in crate::store) const NEXT_DUE: &str = "
WITH RECURSIVE s (lane, channel, tenant, due_at) AS (
  SELECT q.lane, j.channel, h.tenant, h.due_at
  FROM generate_series(0::bigint, 3::bigint) AS q (lane)
  CROSS JOIN unnest($1::text[] COLLATE \"C\") AS j (channel) CROSS JOIN LATERAL (
    SELECT d.tenant, d.due_at FROM deliveries d
    WHERE d.state = 'pending' AND d.lane = q.lane AND d.channel = j.channel
    ORDER BY d.tenant, d.due_at LIMIT 1) h
  UNION ALL
  SELECT s.lane, s.channel, h.tenant, h.due_at FROM s CROSS JOIN LATERAL (
    SELECT d.tenant, d.due_at FROM deliveries d
    WHERE d.state = 'pending' AND d.lane = s.lane AND d.channel = s.channel AND d.tenant > s.tenant
    ORDER BY d.tenant, d.due_at LIMIT 1) h)
SELECT min(at) FROM (
  SELECT min(due_at) AS at FROM s
  UNION ALL SELECT min(visible_at) FROM scheduled
  UNION ALL SELECT min(next_at) FROM jobs WHERE done = 0) AS due";

pub(in crate::store) const DEPTHS: &str =
    "SELECT lane, count(*), min(due_at) FROM deliveries WHERE state = 'pending' GROUP BY lane ORDER BY lane";

/// Held until the transaction ends: another dispatcher that looks at the same time finds the next ones.
pub(in crate::store) const DUE_SCHEDULED: &str = "
SELECT visible_at, notification_id, routes, group_key FROM scheduled WHERE visible_at <= $1::bigint
ORDER BY visible_at, notification_id LIMIT $2::bigint FOR UPDATE SKIP LOCKED";

/// Takes `[visible_at, notification]`.
pub(in crate::store) const DELETE_SCHEDULED: &str = "
DELETE FROM scheduled s USING unnest($1::bigint[], $2::uuid[]) AS due (visible_at, id)
WHERE s.visible_at = due.visible_at AND s.notification_id = due.id";

/// Rows of the inbox have no worker: they are delivered when they are visible. `coalesce` keeps the planner from the index
/// of all that is pending.
pub(in crate::store) const DELIVER_VISIBLE: &str = concat!(
    "
WITH held AS MATERIALIZED (
  SELECT d.id FROM (SELECT * FROM unnest($1::uuid[]) AS s (id) ORDER BY id) s
  CROSS JOIN LATERAL (SELECT d.id FROM deliveries d
    WHERE d.notification_id = s.id AND d.channel = 'in_app' AND coalesce(d.state, '') = 'pending'
    ORDER BY d.id::text FOR UPDATE) d
), gone AS (
  DELETE FROM deliveries d WHERE d.id = ANY (ARRAY(SELECT h.id FROM held h))
  RETURNING d.id, d.notification_id, d.tenant, d.channel, d.\"user\", d.address, d.lane, d.reason, d.due_at, d.lease_until,
    d.token, d.max_attempts, d.worker
)
INSERT INTO delivery_history (",
    columns!(),
    ")
SELECT id, notification_id, tenant, channel, \"user\", address, lane, 'delivered', reason, due_at, lease_until, token,
  max_attempts, worker, $2::bigint FROM gone
RETURNING tenant"
);

/// The most important lane first, and in it who waits for the longest. Lanes are looked at one after the other, until one has
/// some.
pub(in crate::store) const CLAIM_JOB: &str = "
WITH c AS MATERIALIZED (
  SELECT p.notification_id FROM generate_series(0::bigint, 3::bigint) AS q (lane) CROSS JOIN LATERAL (
    SELECT notification_id FROM jobs WHERE done = 0 AND lane = q.lane AND next_at <= $1::bigint
    ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED) p
  LIMIT 1)
UPDATE jobs j SET token = j.token + 1, worker = $2::text, next_at = $3::bigint, updated_at = $1::bigint
FROM c WHERE j.notification_id = c.notification_id
RETURNING j.notification_id, j.tenant, j.job, j.cursor, j.token";

/// Leases of fan-outs that end after `$1`, the present, and before `$2`: they end now. The token stays, and the next claim
/// raises it.
pub(in crate::store) const RESCUE_JOBS: &str = "
WITH lost AS MATERIALIZED (
  SELECT notification_id FROM jobs
  WHERE done = 0 AND next_at > $1::bigint AND next_at < $2::bigint AND worker IS NOT NULL
  ORDER BY notification_id FOR UPDATE SKIP LOCKED)
UPDATE jobs j SET next_at = $1::bigint, worker = NULL, updated_at = $1::bigint
FROM lost WHERE j.notification_id = lost.notification_id";

pub(in crate::store) const JOB_NOTIFICATION: &str =
    "SELECT lane, visible_at, expires_at FROM notifications WHERE id = $1::uuid";

pub(in crate::store) const ADVANCE_JOB: &str = "
UPDATE jobs SET cursor = coalesce($3::text, cursor), next_at = $4::bigint, done = $5::bigint, updated_at = $6::bigint
WHERE notification_id = $1::uuid AND token = $2::bigint AND done = 0";

/// Contacts of one tenant after a user, in order.
pub(in crate::store) const JOB_CONTACTS: &str = "
SELECT tenant, \"user\", body FROM contacts WHERE tenant = $1::text AND \"user\" > $2::text
ORDER BY \"user\" LIMIT $3::bigint";

/// Contacts of all tenants after a tenant and a user, in order.
pub(in crate::store) const JOB_CONTACTS_ALL: &str = "
SELECT tenant, \"user\", body FROM contacts WHERE (tenant, \"user\") > ($1::text, $2::text)
ORDER BY tenant, \"user\" LIMIT $3::bigint";

/// Keys that the newest tokens of these `[tenant, user]` carried.
pub(in crate::store) const JOB_MEMBERSHIPS: &str = "
SELECT m.tenant, m.\"user\", m.key FROM unnest($1::text[], $2::text[]) AS j (tenant, username)
JOIN readers m ON m.tenant = j.tenant AND m.\"user\" = j.username
WHERE m.current = 1";

pub(in crate::store) const CANCEL_JOB: &str =
    "UPDATE jobs SET done = 1, updated_at = $2::bigint WHERE notification_id = $1::uuid AND done = 0";

pub(in crate::store) const CANCEL_SCHEDULED: &str =
    "DELETE FROM scheduled WHERE visible_at = $1::bigint AND notification_id = $2::uuid";
