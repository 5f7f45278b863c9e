/** The sub-protocol this client speaks; without it the hub speaks the seeds' dialect. */
export const SUBPROTOCOL = 'carillon.v1';

/** Close codes with a meaning of their own; every other one means: come back, with back-off. */
export const CloseCode = Object.freeze({
  NORMAL: 1000,
  GOING_AWAY: 1001,
  RESTART: 1012,
  TRY_AGAIN_LATER: 1013,
  TOKEN: 4001,
  FORBIDDEN: 4003,
  SLOW_CONSUMER: 4008,
  REPLACED: 4009,
});

/** A session that was replaced or is one too many waits at least this long, so that two do not evict each other in turn. */
const CROWDED_FLOOR_MS = 5_000;

/**
 * What a close means for what comes next.
 * @typedef {object} Verdict
 * @property {boolean} terminal no reconnect
 * @property {boolean} renewToken the token in use is no longer good
 * @property {boolean} planned the hub sent us away on purpose; this is no failed try
 * @property {number} floorMs earliest time to come back, where the code itself says so
 * @property {number | undefined} hintMs when the hub asked us to come back
 */

/**
 * @param {number} code
 * @param {string} reason
 * @returns {Verdict}
 */
export function judgeClose(code, reason) {
  return {
    terminal: code === CloseCode.NORMAL || code === CloseCode.FORBIDDEN,
    renewToken: code === CloseCode.TOKEN,
    planned: code === CloseCode.RESTART || code === CloseCode.SLOW_CONSUMER,
    floorMs: code === CloseCode.REPLACED || code === CloseCode.TOKEN ? CROWDED_FLOOR_MS : 0,
    hintMs: retryHint(reason),
  };
}

/**
 * The time to wait that a close reason names: JSON with `retry_after_ms`, or text such as `retry_after_ms=1500` or
 * `retry after 2 s`.
 * @param {string} reason
 * @returns {number | undefined} milliseconds
 */
export function retryHint(reason) {
  if (!reason) return undefined;
  try {
    const value = JSON.parse(reason)?.retry_after_ms;
    if (typeof value === 'number' && value >= 0) return value;
  } catch {
    // Not JSON: text.
  }
  const found = /retry[_\s-]?after(_ms)?\D{0,3}(\d{1,9})\s*(ms|s)?/i.exec(reason);
  if (!found) return undefined;
  const inMilliseconds = found[1] !== undefined || found[3]?.toLowerCase() === 'ms';
  return Number(found[2]) * (inMilliseconds ? 1 : 1000);
}

/**
 * One shape for a notification, whichever way it came: the flat frame, the list, the change feed.
 * @param {Record<string, any>} raw
 * @returns {import('./index.js').Notification}
 */
export function toNotification(raw) {
  const fromFrame = raw.type === 'notification';
  const createdAt = typeof raw.created_at === 'string' ? raw.created_at : null;
  const content = raw.content ?? raw.message ?? '';
  return {
    id: String(raw.id),
    title: String(raw.title ?? ''),
    content: String(content),
    kind: String(raw.kind ?? (fromFrame ? undefined : raw.type) ?? 'info'),
    priority: String(raw.priority ?? 'normal'),
    metadata: raw.metadata ?? raw.extra_data ?? raw.data ?? null,
    created_at: createdAt,
    timestamp: typeof raw.timestamp === 'number' ? raw.timestamp : instantOf(createdAt),
    is_read: raw.is_read === true,
    read_at: raw.read_at ?? null,
    topic: raw.topic ?? null,
    raw,
  };
}

/**
 * @param {string | null} text RFC 3339; without a zone it is UTC
 * @returns {number | null} Unix seconds
 */
function instantOf(text) {
  if (text === null) return null;
  const zoned = /(?:z|[+-]\d\d:?\d\d)$/i.test(text) ? text : `${text}Z`;
  const milliseconds = Date.parse(zoned);
  return Number.isNaN(milliseconds) ? null : milliseconds / 1000;
}
