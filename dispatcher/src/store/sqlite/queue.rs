//! The queue.

/// No row has this id; it costs the same whatever the table holds.
pub(in crate::store) const ANSWERS: &str = "
SELECT count(*) FROM deliveries WHERE id = zeroblob(16)";

/// Who has work that is due: the first tenant of each channel `?3` in lane `?1` after `?4`, and from each the next one.
pub(in crate::store) const FLOWS: &str = "
WITH RECURSIVE s(channel, head) AS (
  SELECT j.value, (SELECT json_array(d.tenant, d.due_at) FROM deliveries d
    WHERE d.state = 'pending' AND d.lane = ?1 AND d.channel = j.value AND d.tenant > ?4
    ORDER BY d.tenant, d.due_at LIMIT 1)
  FROM json_each(?3) j
  UNION ALL
  SELECT s.channel, (SELECT json_array(d.tenant, d.due_at) FROM deliveries d
    WHERE d.state = 'pending' AND d.lane = ?1 AND d.channel = s.channel AND d.tenant > s.head ->> 0
    ORDER BY d.tenant, d.due_at LIMIT 1)
  FROM s WHERE s.head IS NOT NULL)
SELECT channel, head ->> 0 FROM s WHERE head IS NOT NULL AND head ->> 1 <= ?2 LIMIT ?5";

/// Takes `[channel, tenant, from]`, and of each the first `?4` that are due; nothing is in the way, so all are looked at.
pub(in crate::store) const CLAIM: &str = "
UPDATE deliveries SET state = 'running', token = token + 1, lease_until = ?5, worker = ?6, updated_at = ?2
WHERE id IN (
  SELECT d.id FROM json_each(?3) j CROSS JOIN deliveries d ON d.id IN (
    SELECT e.id FROM deliveries e
    WHERE e.state = 'pending' AND e.lane = ?1 AND e.channel = j.value ->> 0 AND e.tenant = j.value ->> 1
      AND e.due_at <= ?2
    ORDER BY e.due_at, e.id LIMIT ?4))
RETURNING id, notification_id, channel, user, address, due_at, token, max_attempts,
  CASE WHEN token = 1 THEN 0 ELSE
    (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = deliveries.id) END, tenant,
  (SELECT e.content FROM delivery_edits e WHERE e.delivery_id = deliveries.id)";

/// When the one after so many expires of those that do after `?1` and up to `?2`.
pub(in crate::store) const EXPIRY_STEP: &str = "
SELECT expires_at FROM notifications WHERE expires_at > ?1 AND expires_at <= ?2
ORDER BY expires_at LIMIT 1 OFFSET ?3";

/// Takes up to `?5` of lane `?1` whose notification expired after `?2`, up to `?3`, whenever they are due.
pub(in crate::store) const CLAIM_EXPIRED: &str = "
UPDATE deliveries SET state = 'running', token = token + 1, lease_until = ?4, worker = ?6, updated_at = ?7
WHERE id IN (
  SELECT d.id FROM notifications n CROSS JOIN deliveries d
    ON d.notification_id = n.id AND +d.lane = ?1 AND +d.state = 'pending' AND +d.channel <> 'in_app'
  WHERE n.expires_at > ?2 AND n.expires_at <= ?3 LIMIT ?5)
RETURNING id, notification_id, channel, user, address, due_at, token, max_attempts,
  CASE WHEN token = 1 THEN 0 ELSE
    (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = deliveries.id) END, tenant,
  (SELECT e.content FROM delivery_edits e WHERE e.delivery_id = deliveries.id)";

pub(in crate::store) const CLAIMED_NOTIFICATIONS: &str = "
SELECT n.id, n.expires_at, n.created_at, n.visible_at, n.content, n.audience,
  CASE WHEN n.withdrawn = 1 OR n.cancelled_at IS NOT NULL THEN 1 ELSE 0 END
FROM json_each(?1) j CROSS JOIN notifications n ON n.id = unhex(j.value)";

/// Takes `[delivery, token, number, started_at, provider]`; only for leases that still hold.
pub(in crate::store) const BEGIN_ATTEMPTS: &str = "
INSERT INTO attempts (delivery_id, number, token, provider, started_at)
SELECT d.id, j.value ->> 2, d.token, j.value ->> 4, j.value ->> 3
FROM json_each(?1) j CROSS JOIN deliveries d
  ON d.id = unhex(j.value ->> 0) AND d.token = j.value ->> 1 AND +d.state = 'running'
WHERE true
ON CONFLICT (delivery_id, number) DO NOTHING
RETURNING delivery_id, token";

/// As [`BEGIN_ATTEMPTS`], for leases that this transaction took.
pub(in crate::store) const BEGIN_CLAIMED: &str = "
INSERT INTO attempts (delivery_id, number, token, provider, started_at)
SELECT unhex(value ->> 0), value ->> 2, value ->> 1, value ->> 4, value ->> 3 FROM json_each(?1) WHERE true
ON CONFLICT (delivery_id, number) DO NOTHING
RETURNING delivery_id, token";

/// Takes `[delivery, token, state, due_at, reason]`. What was cancelled or withdrawn meanwhile is not tried
/// again.
pub(in crate::store) const SETTLE: &str = "
UPDATE deliveries SET
  state = CASE WHEN s.state = 'pending' AND EXISTS
    (SELECT 1 FROM notifications n WHERE n.id = deliveries.notification_id
      AND (n.withdrawn = 1 OR n.cancelled_at IS NOT NULL))
    THEN 'cancelled' ELSE s.state END,
  due_at = coalesce(s.due_at, deliveries.due_at), reason = s.reason, lease_until = NULL, worker = NULL, updated_at = ?2
FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS token, value ->> 2 AS state, value ->> 3 AS due_at,
  value ->> 4 AS reason FROM json_each(?1)) s
WHERE deliveries.id = s.id AND deliveries.token = s.token AND +deliveries.state = 'running'
RETURNING id, token, tenant, state";

/// Takes `[delivery, token, outcome, reason, response]`; ends the attempt that was begun under the token and is open.
pub(in crate::store) const END_ATTEMPTS: &str = "
UPDATE attempts SET finished_at = ?2, outcome = s.outcome, reason = s.reason, response = s.response
FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS token, value ->> 2 AS outcome, value ->> 3 AS reason,
  value ->> 4 AS response FROM json_each(?1)) s
WHERE attempts.delivery_id = s.id AND attempts.token = s.token
  AND attempts.finished_at IS NULL AND attempts.outcome IS NULL";

pub(in crate::store) const EXTEND: &str = "
UPDATE deliveries SET lease_until = s.until
FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS token, value ->> 2 AS until FROM json_each(?1)) s
WHERE deliveries.id = s.id AND deliveries.token = s.token AND +deliveries.state = 'running'
RETURNING id, token";

/// Gives leases back; an attempt that was begun under one does not count against the limit.
pub(in crate::store) const RELEASE: &str = "
UPDATE deliveries SET
  state = CASE WHEN EXISTS
    (SELECT 1 FROM notifications n WHERE n.id = deliveries.notification_id
      AND (n.withdrawn = 1 OR n.cancelled_at IS NOT NULL))
    THEN 'cancelled' ELSE 'pending' END,
  max_attempts = max_attempts + (SELECT count(*) FROM attempts a
    WHERE a.delivery_id = deliveries.id AND a.token = deliveries.token AND a.finished_at IS NULL AND a.outcome IS NULL),
  lease_until = NULL, worker = NULL, updated_at = ?2
FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS token FROM json_each(?1)) s
WHERE deliveries.id = s.id AND deliveries.token = s.token AND +deliveries.state = 'running'
RETURNING id, token";

/// Leases that ran out, with the number of attempts and whether the last one is open.
pub(in crate::store) const EXPIRED_LEASES: &str = "
SELECT d.id, d.token, d.channel, d.max_attempts,
  (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.id),
  (SELECT count(*) FROM attempts a
    WHERE a.delivery_id = d.id AND a.token = d.token AND a.finished_at IS NULL AND a.outcome IS NULL)
FROM deliveries d WHERE d.state = 'running' AND d.lease_until < ?1 ORDER BY d.lease_until LIMIT ?2";

/// An attempt that a rescue found open: its end is not known, and no end time is made up.
pub(in crate::store) const MARK_UNKNOWN: &str = "
UPDATE attempts SET outcome = 'unknown'
FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS token FROM json_each(?1)) s
WHERE attempts.delivery_id = s.id AND attempts.token = s.token
  AND attempts.finished_at IS NULL AND attempts.outcome IS NULL";

/// From lane to lane, channel `?1` to channel, tenant to tenant: the first of each.
pub(in crate::store) const NEXT_DUE: &str = "
WITH RECURSIVE s(lane, channel, head) AS (
  SELECT q.value, j.value, (SELECT json_array(d.tenant, d.due_at) FROM deliveries d
    WHERE d.state = 'pending' AND d.lane = q.value AND d.channel = j.value ORDER BY d.tenant, d.due_at LIMIT 1)
  FROM json_each('[0,1,2,3]') q CROSS JOIN json_each(?1) j
  UNION ALL
  SELECT s.lane, s.channel, (SELECT json_array(d.tenant, d.due_at) FROM deliveries d
    WHERE d.state = 'pending' AND d.lane = s.lane AND d.channel = s.channel AND d.tenant > s.head ->> 0
    ORDER BY d.tenant, d.due_at LIMIT 1)
  FROM s WHERE s.head IS NOT NULL)
SELECT min(at) FROM (
  SELECT min(head ->> 1) AS at FROM s
  UNION ALL SELECT min(visible_at) FROM scheduled
  UNION ALL SELECT min(next_at) FROM jobs WHERE done = 0)";

pub(in crate::store) const DEPTHS: &str =
    "SELECT lane, count(*), min(due_at) FROM deliveries WHERE state = 'pending' GROUP BY lane ORDER BY lane";

pub(in crate::store) const DUE_SCHEDULED: &str =
    "SELECT visible_at, notification_id, routes, group_key FROM scheduled WHERE visible_at <= ?1
ORDER BY visible_at, notification_id LIMIT ?2";

/// Takes `[visible_at, notification]`.
pub(in crate::store) const DELETE_SCHEDULED: &str = "
DELETE FROM scheduled WHERE (visible_at, notification_id) IN
  (SELECT CAST(value ->> 0 AS INTEGER), unhex(value ->> 1) FROM json_each(?1))";

/// Rows of the inbox have no worker: they are delivered when they are visible.
pub(in crate::store) const DELIVER_VISIBLE: &str = "
UPDATE deliveries SET state = 'delivered', updated_at = ?2
FROM (SELECT unhex(value) AS id FROM json_each(?1)) s
WHERE deliveries.notification_id = s.id AND deliveries.channel = 'in_app' AND +deliveries.state = 'pending'
RETURNING tenant";

/// The most important lane first, and in it who waits for the longest.
pub(in crate::store) const CLAIM_JOB: &str = "
UPDATE jobs SET token = token + 1, worker = ?2, next_at = ?3, updated_at = ?1
WHERE notification_id = coalesce(
  (SELECT notification_id FROM jobs WHERE done = 0 AND lane = 0 AND next_at <= ?1 ORDER BY next_at LIMIT 1),
  (SELECT notification_id FROM jobs WHERE done = 0 AND lane = 1 AND next_at <= ?1 ORDER BY next_at LIMIT 1),
  (SELECT notification_id FROM jobs WHERE done = 0 AND lane = 2 AND next_at <= ?1 ORDER BY next_at LIMIT 1),
  (SELECT notification_id FROM jobs WHERE done = 0 AND lane = 3 AND next_at <= ?1 ORDER BY next_at LIMIT 1))
RETURNING notification_id, tenant, job, cursor, token";

/// Leases of fan-outs that end after `?1`, the present, and before `?2`: they end now. The token stays, and the next claim
/// raises it.
pub(in crate::store) const RESCUE_JOBS: &str = "
UPDATE jobs SET next_at = ?1, worker = NULL, updated_at = ?1
WHERE done = 0 AND next_at > ?1 AND next_at < ?2 AND worker IS NOT NULL";

pub(in crate::store) const JOB_NOTIFICATION: &str =
    "SELECT lane, visible_at, expires_at FROM notifications WHERE id = ?1";

pub(in crate::store) const ADVANCE_JOB: &str = "
UPDATE jobs SET cursor = coalesce(?3, cursor), next_at = ?4, done = ?5, updated_at = ?6
WHERE notification_id = ?1 AND token = ?2 AND done = 0";

/// Contacts of one tenant after a user, in order.
pub(in crate::store) const JOB_CONTACTS: &str =
    "SELECT tenant, user, body FROM contacts WHERE tenant = ?1 AND user > ?2 ORDER BY user LIMIT ?3";

/// Contacts of all tenants after a tenant and a user, in order.
pub(in crate::store) const JOB_CONTACTS_ALL: &str =
    "SELECT tenant, user, body FROM contacts WHERE (tenant, user) > (?1, ?2) ORDER BY tenant, user LIMIT ?3";

/// Keys that the newest tokens of these `[tenant, user]` carried.
pub(in crate::store) const JOB_MEMBERSHIPS: &str = "
SELECT m.tenant, m.user, m.key FROM json_each(?1) j CROSS JOIN readers m
  ON m.tenant = j.value ->> 0 AND m.user = j.value ->> 1
WHERE m.current = 1";

pub(in crate::store) const CANCEL_JOB: &str =
    "UPDATE jobs SET done = 1, updated_at = ?2 WHERE notification_id = ?1 AND done = 0";

pub(in crate::store) const CANCEL_SCHEDULED: &str =
    "DELETE FROM scheduled WHERE visible_at = ?1 AND notification_id = ?2";
