/** The sub-protocol this client speaks; without it the hub speaks the seeds' dialect. */
export const SUBPROTOCOL = 'carillon.v1';

/** The hub's close codes; `common/src/protocol/close.rs` has the table. */
export const CloseCode = Object.freeze({
  NORMAL: 1000,
  PROTOCOL: 1002,
  UNSUPPORTED: 1003,
  NOT_UTF8: 1007,
  TOO_BIG: 1009,
  RESTART: 1012,
  UNAVAILABLE: 1013,
  TOKEN_EXPIRED: 4001,
  TOKEN_INVALID: 4002,
  DISCONNECTED: 4003,
  RATE_LIMITED: 4007,
  SLOW_CONSUMER: 4008,
  HEARTBEAT_LOST: 4009,
});

const TERMINAL = new Set([CloseCode.NORMAL, CloseCode.DISCONNECTED]);
const TOKEN = new Set([CloseCode.TOKEN_EXPIRED, CloseCode.TOKEN_INVALID]);
const PLANNED = new Set([CloseCode.RESTART, CloseCode.SLOW_CONSUMER]);
const BROKEN = new Set([CloseCode.PROTOCOL, CloseCode.UNSUPPORTED, CloseCode.NOT_UTF8]);

/** What an operator may add to the reason of a close. */
const STAY_AWAY = /; reconnect=no$/;
const COME_BACK = /; retry_after_ms=\d{1,9}$/;
const FIRST_OPERATORS_CODE = 4100;

const IMPATIENT_FLOOR_MS = 5_000;
const BROKEN_FLOOR_MS = 300_000;

/**
 * What a close means for what comes next.
 * @typedef {object} Verdict
 * @property {boolean} terminal the client ends
 * @property {boolean} renewToken the token in use is no longer good
 * @property {boolean} planned the hub sent us away on purpose; this is no failed try
 * @property {boolean} broken one side breaks the protocol, or a box between them does: poll, and leave the socket for long
 * @property {number} floorMs earliest time to come back, where the code itself says so
 * @property {number | undefined} hintMs when the hub asked us to come back
 */

/**
 * @param {number} code any; one without a meaning of its own says: come back, with back-off
 * @param {string} reason
 * @returns {Verdict}
 */
export function judgeClose(code, reason) {
  const known = /** @type {any} */ (code);
  const broken = BROKEN.has(known);
  const operators = code === CloseCode.DISCONNECTED || code >= FIRST_OPERATORS_CODE;
  const invited = operators && COME_BACK.test(reason);
  const impatient = TOKEN.has(known) || code === CloseCode.RATE_LIMITED;
  return {
    terminal: operators && STAY_AWAY.test(reason) ? true : TERMINAL.has(known) && !invited,
    renewToken: TOKEN.has(known),
    planned: PLANNED.has(known) || invited,
    broken,
    floorMs: broken ? BROKEN_FLOOR_MS : impatient ? IMPATIENT_FLOOR_MS : 0,
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
    // `timestamp` has whole seconds only, which would put a frame before older rows of the same second.
    timestamp: instantOf(createdAt) ?? (typeof raw.timestamp === 'number' ? raw.timestamp : null),
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
export function instantOf(text) {
  if (text === null) return null;
  const zoned = /(?:z|[+-]\d\d:?\d\d)$/i.test(text) ? text : `${text}Z`;
  const milliseconds = Date.parse(zoned);
  return Number.isNaN(milliseconds) ? null : milliseconds / 1000;
}
