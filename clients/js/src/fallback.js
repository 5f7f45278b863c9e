import { CarillonError } from './errors.js';
import { CloseCode } from './protocol.js';

/** A gateway that knows no such path, or answers something else, is not asked again soon. */
const ABSENT_FLOOR_MS = 300_000;

/**
 * What the ways below the socket have in common. The request carries what a socket's client would say: topics and
 * positions. So whatever changes these is the next request's, and only receipts are told beside it.
 * @typedef {object} Wish
 * @property {string[]} topics explicit topics by name
 * @property {Record<string, string>} positions
 *
 * @typedef {object} FallbackOptions
 * @property {string} base
 * @property {typeof globalThis.fetch} fetch
 * @property {string} token
 * @property {import('./clock.js').Clock} clock
 * @property {number} openTimeoutMs
 * @property {() => Wish} wish
 * @property {() => void} onUp
 * @property {(frame: Record<string, any>) => void} onFrame
 * @property {(positions: Record<string, string>) => void} onPositions all topics of the session, in the place of what was known
 * @property {(ids: string[]) => void} onUnsent receipts that the hub did not get
 * @property {(end: import('./connection.js').End) => void} onEnd called exactly once
 */

/** @param {Wish} wish */
export function queryOf({ topics, positions }) {
  const query = new URLSearchParams();
  if (topics.length > 0) query.set('topics', JSON.stringify(topics));
  if (Object.keys(positions).length > 0) query.set('positions', JSON.stringify(positions));
  return query;
}

/**
 * What a refusal means for this way.
 * @param {Response} response
 * @returns {Promise<import('./connection.js').Ending>}
 */
export async function refusal(response) {
  /** @type {Record<string, any>} */
  let problem = {};
  try {
    problem = (await response.json()) ?? {};
  } catch {
    // A gateway's own page: the status has to do.
  }
  const reason = String(problem.detail ?? `the server answered ${response.status}`);
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  const hintMs = Number.isFinite(seconds) ? seconds * 1000 : undefined;
  if (response.status === 401) return { code: CloseCode.TOKEN_EXPIRED, reason, hintMs };
  if (response.status === 403 && problem.code === 'disconnected') return { code: CloseCode.DISCONNECTED, reason };
  if (response.status === 429 || response.status >= 500) return { code: 1006, reason, hintMs };
  const error = new CarillonError(String(problem.code ?? `http_${response.status}`), reason, {
    status: response.status,
    field: problem.field,
  });
  // 404 and 405: a server or gateway without it, which is no error of the application.
  return { ...absent(reason), error: response.status === 404 || response.status === 405 ? undefined : error };
}

/**
 * @param {string} reason
 * @returns {import('./connection.js').Ending}
 */
export function absent(reason) {
  return { code: 1006, reason, blocked: true, floorMs: ABSENT_FLOOR_MS };
}

/**
 * A socket's command, without a socket.
 * @param {FallbackOptions} options
 * @param {Record<string, any>} command
 * @param {{ session?: string | undefined, again: () => void }} more `again`: ask anew, as the wish has changed
 * @returns {boolean} whether it will be done
 */
export function tell(options, command, { session, again }) {
  if (command.type !== 'ack' && command.type !== 'read') {
    again();
    return true;
  }
  const query = session === undefined ? '' : `?session=${encodeURIComponent(session)}`;
  const sent = options.fetch(`${options.base}/api/v1/commands${query}`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${options.token}`, 'Content-Type': 'application/json' },
    body: JSON.stringify(command),
    keepalive: true,
  });
  const unsent = () => {
    if (command.type === 'ack') options.onUnsent(command.ids);
  };
  sent.then((response) => (response.status === 429 || response.status >= 500 ? unsent() : undefined), unsent);
  return true;
}
