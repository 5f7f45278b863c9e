//! What was taken back and has to be ended.

/// The next `?4` pending deliveries of notification `?1` from the place `?2` on end at `?5` with reason `?3`. Answers
/// `[delivery, its place, whether it was stopped]`. A place is a user; those without one, whom the request named, are looked
/// at each time.
pub(in crate::store) const STOP_PENDING: &str = "
UPDATE deliveries SET state = 'cancelled', reason = ?3, updated_at = ?5
WHERE id IN (SELECT u.id FROM (
  SELECT d.id FROM deliveries d WHERE d.notification_id = ?1 AND d.user IS NULL AND +d.state = 'pending'
  UNION ALL
  SELECT s.id FROM (SELECT e.id FROM deliveries e
    WHERE e.notification_id = ?1 AND e.user >= ?2 AND +e.state = 'pending' ORDER BY e.user LIMIT ?4) s) u
  LIMIT ?4)
RETURNING id, coalesce(user, ''), 1";

/// The first reason stays.
pub(in crate::store) const KEEP_STOP: &str =
    "INSERT INTO stops (notification_id, reason) VALUES (?1, ?2) ON CONFLICT DO NOTHING";

pub(in crate::store) const OPEN_STOPS: &str =
    "SELECT s.notification_id, s.reason FROM stops s ORDER BY s.notification_id LIMIT ?1";

pub(in crate::store) const END_STOP: &str = "DELETE FROM stops WHERE notification_id = ?1";
