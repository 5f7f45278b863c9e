//! Chains.

/// What a chain is read as.
macro_rules! chain {
    () => {
        "c.id, c.notification_id, c.tenant, c.lane, c.chain"
    };
}

/// Takes `[id, notification, tenant, user, lane, open, next_at, untold, chain]`.
pub(in crate::store) const INSERT_CHAINS: &str = "
INSERT INTO chains (id, notification_id, tenant, user, lane, open, next_at, untold, chain, updated_at)
SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
  value ->> 7, value ->> 8, ?2 FROM json_each(?1)";

/// Takes `[id, open, next_at, untold, chain]`.
pub(in crate::store) const PUT_CHAINS: &str = "
UPDATE chains SET open = s.open, next_at = s.next_at, untold = s.untold, chain = s.chain, updated_at = ?2
FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS open, value ->> 2 AS next_at, value ->> 3 AS untold,
  value ->> 4 AS chain FROM json_each(?1)) s
WHERE chains.id = s.id";

pub(in crate::store) const CHAINS_BY_ID: &str = concat!(
    "SELECT ",
    chain!(),
    " FROM json_each(?1) j CROSS JOIN chains c ON c.id = unhex(j.value)"
);

/// Open ones of a reader: `?1` tenant, `?2` user, `?3` notifications.
pub(in crate::store) const CHAINS_OF_READER: &str = concat!(
    "SELECT ",
    chain!(),
    " FROM json_each(?3) j CROSS JOIN chains c ON c.notification_id = unhex(j.value) AND c.user = ?2
WHERE c.tenant = ?1 AND +c.open = 1"
);

/// Open ones of a reader, of notifications up to a position of its own key: `?1` tenant, `?2` user, `?3` key, `?4` position.
pub(in crate::store) const CHAINS_UP_TO: &str = concat!(
    "SELECT ",
    chain!(),
    " FROM chains c CROSS JOIN inbox i INDEXED BY inbox_notification ON i.notification_id = c.notification_id AND i.key = ?3
WHERE c.tenant = ?1 AND c.user = ?2 AND c.open = 1 AND i.position <= ?4"
);

/// Open ones of a notification.
pub(in crate::store) const CHAINS_OF_NOTIFICATION: &str = concat!(
    "SELECT ",
    chain!(),
    " FROM chains c WHERE c.notification_id = ?1 AND +c.open = 1"
);

pub(in crate::store) const SHOWN_CHAINS: &str =
    "SELECT c.chain FROM chains c WHERE c.notification_id = ?1 ORDER BY c.user LIMIT ?2";

pub(in crate::store) const DUE_CHAINS: &str = concat!(
    "SELECT ",
    chain!(),
    " FROM chains c WHERE c.next_at <= ?1 ORDER BY c.next_at LIMIT ?2"
);

pub(in crate::store) const NEXT_STEP: &str = "SELECT min(next_at) FROM chains WHERE next_at IS NOT NULL";

pub(in crate::store) const UNTOLD_CHAINS: &str = concat!(
    "SELECT ",
    chain!(),
    " FROM chains c WHERE c.untold = 1 ORDER BY c.updated_at LIMIT ?1"
);

/// Takes `[id, state, reason]`; only what waits in the queue.
pub(in crate::store) const STOP_DELIVERIES: &str = "
UPDATE deliveries SET state = s.state, reason = s.reason, updated_at = ?2
FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS state, value ->> 2 AS reason FROM json_each(?1)) s
WHERE deliveries.id = s.id AND +deliveries.state = 'pending'
RETURNING id";

/// Frames that arrived: takes `[notification, tenant, user]`.
pub(in crate::store) const RECEIVED: &str = "
UPDATE deliveries SET state = 'delivered', reason = NULL, lease_until = NULL, worker = NULL, updated_at = ?2
FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS tenant, value ->> 2 AS user FROM json_each(?1)) s
WHERE deliveries.notification_id = s.id AND deliveries.user = s.user AND deliveries.channel = 'realtime'
  AND deliveries.tenant = s.tenant AND +deliveries.state IN ('pending', 'running')
RETURNING deliveries.id, token, deliveries.tenant";

/// Chains that ended before `?1`, at most `?2`.
pub(in crate::store) const FORGET_CHAINS: &str = "
DELETE FROM chains WHERE id IN
  (SELECT c.id FROM chains c WHERE c.open = 0 AND c.updated_at < ?1 ORDER BY c.updated_at LIMIT ?2)";

/// Deliveries of a notification that were taken back.
pub(in crate::store) const CANCELLED: &str =
    "SELECT d.id FROM all_deliveries d WHERE d.notification_id = ?1 AND d.state = 'cancelled'";
