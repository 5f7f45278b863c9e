import { CarillonError } from './errors.js';
import { toNotification } from './protocol.js';

const DEFAULT_TIMEOUT_MS = 20_000;

/** Carillon's HTTP API, as far as a person's page needs it. */
export class Rest {
  #base;
  #tokens;
  #fetch;
  #clock;

  /**
   * @param {{ base: string, tokens: import('./token.js').TokenSource, fetch: typeof globalThis.fetch, clock: import('./clock.js').Clock }} options
   */
  constructor({ base, tokens, fetch, clock }) {
    this.#base = base.replace(/\/+$/, '');
    this.#tokens = tokens;
    this.#fetch = fetch;
    this.#clock = clock;
  }

  /**
   * @param {{ isRead?: boolean, limit?: number, offset?: number }} [query]
   */
  async list({ isRead, limit, offset } = {}) {
    const query = new URLSearchParams();
    if (isRead !== undefined) query.set('is_read', String(isRead));
    if (limit !== undefined) query.set('limit', String(limit));
    if (offset !== undefined) query.set('offset', String(offset));
    const suffix = query.size > 0 ? `?${query}` : '';
    const rows = await this.request('GET', `/api/v1/notifications${suffix}`);
    return /** @type {Record<string, any>[]} */ (rows).map(toNotification);
  }

  /** @returns {Promise<number>} */
  async unreadCount() {
    const answer = await this.request('GET', '/api/v1/notifications/unread-count');
    return Number(answer.unread_count);
  }

  /** @param {string[]} ids */
  async markRead(ids) {
    const [only] = ids;
    if (only === undefined) return;
    if (ids.length === 1) await this.request('PUT', `/api/v1/notifications/${encodeURIComponent(only)}/read`);
    else await this.request('PUT', '/api/v1/notifications/bulk-read', { body: { ids } });
  }

  async markAllRead() {
    await this.request('PUT', '/api/v1/notifications/read-all');
  }

  /** @param {string} id */
  async remove(id) {
    await this.request('DELETE', `/api/v1/notifications/${encodeURIComponent(id)}`);
  }

  /** @param {string} id */
  async archive(id) {
    await this.request('PUT', `/api/v1/notifications/${encodeURIComponent(id)}/archive`);
  }

  /**
   * @param {string} id
   * @param {number} seconds
   */
  async snooze(id, seconds) {
    await this.request('PUT', `/api/v1/notifications/${encodeURIComponent(id)}/snooze`, { body: { for: seconds } });
  }

  /** @param {Record<string, any>} notification the canonical body */
  async send(notification) {
    return await this.request('POST', '/api/v1/notifications', { body: notification });
  }

  /** @returns {Promise<Record<string, any>>} */
  async templates() {
    const answer = await this.request('GET', '/api/v1/notifications/templates');
    return answer.templates ?? {};
  }

  /**
   * One call. A refused token is replaced once, where the application can give another.
   * @param {string} method
   * @param {string} path
   * @param {{ body?: unknown, signal?: AbortSignal, timeoutMs?: number }} [options]
   * @returns {Promise<any>}
   */
  async request(method, path, options = {}) {
    const token = await this.#tokens.get();
    try {
      return await this.#once(method, path, token, options);
    } catch (error) {
      if (!(error instanceof CarillonError) || error.status !== 401) throw error;
      this.#tokens.reject(token);
      if (!this.#tokens.renewable) throw error;
      const other = await this.#tokens.get();
      if (other === null || other === token) throw error;
      return await this.#once(method, path, other, options);
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {string | null} token
   * @param {{ body?: unknown, signal?: AbortSignal, timeoutMs?: number }} options
   */
  async #once(method, path, token, { body, signal, timeoutMs = DEFAULT_TIMEOUT_MS }) {
    if (token === null) throw new CarillonError('signed_out', 'there is no token', { status: 401 });
    const abort = new AbortController();
    const stop = () => abort.abort();
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop);
    const timer = this.#clock.setTimeout(stop, timeoutMs);
    /** @type {Record<string, string>} */
    const headers = { Authorization: `Bearer ${token}`, Accept: 'application/json' };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    try {
      const response = await this.#fetch(this.#base + path, {
        method,
        headers,
        signal: abort.signal,
        cache: 'no-store',
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (!response.ok) throw problem(response, text);
      return text === '' ? null : parse(text, response.status);
    } catch (error) {
      if (error instanceof CarillonError) throw error;
      if (signal?.aborted) throw new CarillonError('aborted', 'the call was given up', { cause: error });
      throw new CarillonError('unreachable', 'the server cannot be reached', { cause: error });
    } finally {
      this.#clock.clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    }
  }
}

/**
 * @param {string} text
 * @param {number} status
 */
function parse(text, status) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CarillonError('bad_answer', 'the server did not answer JSON', { status, cause: error });
  }
}

/**
 * @param {Response} response
 * @param {string} text
 */
function problem(response, text) {
  /** @type {Record<string, any>} */
  let body = {};
  try {
    body = JSON.parse(text) ?? {};
  } catch {
    // A proxy's own error page: the status has to do.
  }
  return new CarillonError(
    body.code ?? `http_${response.status}`,
    body.detail ?? body.title ?? `the server answered ${response.status}`,
    { status: response.status, field: body.field, retryAfterMs: retryAfter(response, body) },
  );
}

/**
 * @param {Response} response
 * @param {Record<string, any>} body
 */
function retryAfter(response, body) {
  if (typeof body.retry_after_ms === 'number') return body.retry_after_ms;
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return Number.isFinite(seconds) ? seconds * 1000 : undefined;
}
