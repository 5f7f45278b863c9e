import { CarillonError } from './errors.js';

/**
 * The inbox's change feed: what happened after a cursor, in order. It is the truth that heals every cut; the socket is
 * the fast way to the same news.
 */
export class Feed {
  /** @type {string | undefined} */
  #cursor;
  #rest;
  #apply;
  #reload;
  /** Calls one after the other: two that started from one cursor would hand changes over twice. */
  #last = Promise.resolve();

  /**
   * @param {{
   *   rest: import('./rest.js').Rest,
   *   apply: (change: Record<string, any>) => void,
   *   reload: () => void,
   *   cursor?: string | undefined,
   * }} options `reload` is called when changes before the cursor are unknown: the list has to be loaded again
   */
  constructor({ rest, apply, reload, cursor }) {
    this.#rest = rest;
    this.#apply = apply;
    this.#reload = reload;
    this.#cursor = cursor;
  }

  get cursor() {
    return this.#cursor;
  }

  /**
   * One page. The cursor moves only after all of the page was handed over.
   * @param {{ waitS?: number, signal: AbortSignal }} options `waitS`: how long the server may hold an empty answer
   * @returns {Promise<{ count: number, more: boolean }>}
   */
  pull(options) {
    const result = this.#last.then(() => this.#pull(options));
    this.#last = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  /** @param {{ waitS?: number, signal: AbortSignal }} options */
  async #pull({ waitS = 0, signal }) {
    if (this.#cursor === undefined) return await this.#begin(signal);
    const query = new URLSearchParams({ after: this.#cursor });
    if (waitS > 0) query.set('wait', String(waitS));
    let page;
    try {
      page = await this.#get(`?${query}`, signal, waitS);
    } catch (error) {
      if (!(error instanceof CarillonError) || error.status !== 410) throw error;
      this.#cursor = undefined;
      return await this.#begin(signal);
    }
    for (const change of page.changes) this.#apply(change);
    this.#cursor = page.cursor;
    return { count: page.changes.length, more: page.more };
  }

  /**
   * The cursor first, the list after it: what comes between the two is in both, and nothing is in neither.
   * @param {AbortSignal} signal
   */
  async #begin(signal) {
    const page = await this.#get('', signal, 0);
    this.#cursor = page.cursor;
    this.#reload();
    return { count: 0, more: false };
  }

  /**
   * @param {string} query
   * @param {AbortSignal} signal
   * @param {number} waitS
   * @returns {Promise<{ changes: Record<string, any>[], cursor: string, more: boolean }>}
   */
  async #get(query, signal, waitS) {
    const answer = await this.#rest.request('GET', `/api/v1/inbox/changes${query}`, {
      signal,
      timeoutMs: (waitS + 15) * 1000,
    });
    if (signal.aborted) throw new CarillonError('aborted', 'the call was given up');
    if (typeof answer?.cursor !== 'string') throw new CarillonError('bad_answer', 'the change feed gave no cursor');
    return { changes: answer.changes ?? [], cursor: answer.cursor, more: answer.more === true };
  }
}
