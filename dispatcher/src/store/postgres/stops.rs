//! What was taken back and has to be ended.

/// A delivery's place among those of its notification.
macro_rules! place {
    () => {
        "delivery_recipient(d.channel, d.\"user\", d.address)"
    };
}

/// The next `$4` pending deliveries of notification `$1` from the place `$2` on end at `$5` with reason `$3`. Answers
/// `[delivery, its place, 0]` of each that was looked at, then `[delivery, none, 1]` of each that was stopped: another one may
/// have been first. The first page, that has no place, also marks what runs, so that a settlement at the same time, which may not see
/// that the notification was taken back, does not make it pending again. What runs is found by its own index: a large
/// notification has much more that waits.
pub(in crate::store) const STOP_PENDING: &str = concat!(
    "
WITH picked AS MATERIALIZED (
  SELECT u.id, u.place FROM (
    (SELECT d.id, '' AS place FROM deliveries d
      WHERE d.notification_id = $1::uuid AND ",
    place!(),
    " IS NULL AND coalesce(d.state, '') = 'pending' LIMIT $4::bigint)
    UNION ALL
    (SELECT d.id, ",
    place!(),
    "::text FROM deliveries d
      WHERE d.notification_id = $1::uuid
        AND ",
    place!(),
    " >= coalesce(nullif($2::text, ''), '00000000-0000-0000-0000-000000000000')::uuid
        AND coalesce(d.state, '') = 'pending'
      ORDER BY ",
    place!(),
    " LIMIT $4::bigint)) u
  LIMIT $4::bigint
), running AS MATERIALIZED (
  SELECT d.id FROM deliveries d
  WHERE $2::text = '' AND d.state = 'running' AND coalesce(d.notification_id, d.id) = $1::uuid ORDER BY d.id
), held AS MATERIALIZED (
  SELECT d.id, d.state
  FROM (SELECT p.id FROM picked p UNION ALL SELECT r.id FROM running r ORDER BY id) s
  CROSS JOIN LATERAL (SELECT d.id, d.state FROM deliveries d WHERE d.id = s.id FOR UPDATE) d
), marked AS (
  UPDATE deliveries d SET reason = CASE WHEN $3::text = 'cancelled' THEN 'cancelled' ELSE 'withdrawn' END
  WHERE d.id = ANY (ARRAY(SELECT h.id FROM held h WHERE h.state <> 'pending'))
), gone AS (
  DELETE FROM deliveries d WHERE d.id = ANY (ARRAY(SELECT h.id FROM held h WHERE h.state = 'pending'))
  RETURNING d.id, d.notification_id, d.tenant, d.channel, d.\"user\", d.address, d.lane, d.due_at, d.lease_until, d.token,
    d.max_attempts, d.worker
), ended AS (
  INSERT INTO delivery_history (",
    columns!(),
    ")
  SELECT id, notification_id, tenant, channel, \"user\", address, lane, 'cancelled', $3::text, due_at, lease_until, token,
    max_attempts, worker, $5::bigint FROM gone
  RETURNING id
)
SELECT id, place, 0::bigint FROM picked UNION ALL SELECT id, NULL, 1::bigint FROM ended"
);

/// The first reason stays.
pub(in crate::store) const KEEP_STOP: &str =
    "INSERT INTO stops (notification_id, reason) VALUES ($1::uuid, $2::text) ON CONFLICT DO NOTHING";

pub(in crate::store) const OPEN_STOPS: &str =
    "SELECT s.notification_id, s.reason FROM stops s ORDER BY s.notification_id LIMIT $1::bigint";

pub(in crate::store) const END_STOP: &str = "DELETE FROM stops WHERE notification_id = $1::uuid";
