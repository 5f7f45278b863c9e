const UNITS = /** @type {const} */ ([
  ['year', 31_536_000],
  ['month', 2_592_000],
  ['week', 604_800],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
]);

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'long' });
const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });

/**
 * Such as `3 minutes ago`.
 * @param {number} timestamp Unix seconds
 * @param {number} [now] Unix seconds
 */
export function ago(timestamp, now = Date.now() / 1000) {
  // A server's clock a little ahead of ours is no future.
  const age = Math.max(0, now - timestamp);
  for (const [unit, seconds] of UNITS) {
    if (age >= seconds) return relative.format(-Math.floor(age / seconds), unit);
  }
  return 'just now';
}

/** @param {number} timestamp Unix seconds */
export function exactly(timestamp) {
  return absolute.format(timestamp * 1000);
}
