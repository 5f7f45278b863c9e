import { absent, queryOf, refusal, tell } from './fallback.js';

const WAIT_S = 25;
/** Beyond the server's own wait. */
const GRACE_MS = 15_000;

/**
 * Long polls (`GET /api/v1/poll`), one after the other, until one fails.
 */
export class LongPoll {
  #options;
  /** @type {AbortController | undefined} the request under way */
  #asking;
  /** @type {number | undefined} */
  #upAt;
  #ended = false;
  #anew = false;
  /** Explicit topics that the hub has confirmed. */
  #confirmed = new Set();

  /** @param {import('./fallback.js').FallbackOptions} options */
  constructor(options) {
    this.#options = options;
    void this.#poll();
  }

  get live() {
    return this.#upAt !== undefined && !this.#ended;
  }

  /** @param {Record<string, any>} command */
  send(command) {
    if (!this.live) return false;
    // A new token is the next connection's.
    const anew = () => this.#end({ code: 1006, reason: 'opened anew', again: true });
    return tell(this.#options, command, { again: command.type === 'refresh' ? anew : () => this.again() });
  }

  /** The poll that waits is given up for one with what is wished now. */
  again() {
    this.#anew = true;
    this.#asking?.abort();
  }

  /** A poll that waits for nothing on a network that was away would wait until its time is over. */
  probe() {
    if (this.live) this.again();
  }

  close() {
    this.#end({ code: 1000, reason: 'closed by the client' });
  }

  async #poll() {
    // The first does not wait: it says whether polling works at all.
    let waitS = 0;
    while (!this.#ended) {
      this.#anew = false;
      const answer = await this.#ask(waitS);
      if (this.#ended) return;
      if (answer !== undefined) waitS = this.#taken(answer) || this.#anew ? 0 : WAIT_S;
      else waitS = 0;
    }
  }

  /**
   * @param {number} waitS
   * @returns {Promise<Record<string, any> | undefined>} nothing where the request was given up or this has ended
   */
  async #ask(waitS) {
    const { base, fetch, token, wish, clock, openTimeoutMs } = this.#options;
    const query = queryOf(wish());
    query.set('wait', String(waitS));
    const asking = new AbortController();
    this.#asking = asking;
    const patience = waitS === 0 ? openTimeoutMs : waitS * 1000 + GRACE_MS;
    const timer = clock.setTimeout(() => asking.abort(), patience);
    try {
      const response = await fetch(`${base}/api/v1/poll?${query}`, {
        headers: { Authorization: `Bearer ${token}`, Accept: 'application/json' },
        cache: 'no-store',
        signal: asking.signal,
      });
      if (!response.ok) {
        this.#end(await refusal(response));
        return undefined;
      }
      const answer = await response.json().catch((/** @type {any} */ error) => {
        if (asking.signal.aborted) throw error;
        return undefined;
      });
      if (Array.isArray(answer?.frames) && typeof answer.positions === 'object') return answer;
      this.#end(absent('no poll'));
    } catch {
      if (!this.#anew) {
        this.#end({ code: 1006, reason: 'the server cannot be reached', unreachable: this.#upAt === undefined });
      }
    } finally {
      clock.clearTimeout(timer);
    }
    return undefined;
  }

  /**
   * @param {Record<string, any>} answer
   * @returns {boolean} whether there is more at once
   */
  #taken(answer) {
    if (this.#upAt === undefined) {
      this.#upAt = this.#options.clock.now();
      this.#options.onUp();
    }
    /** @type {Record<string, any>[]} */
    const gaps = [];
    for (const frame of answer.frames) {
      if (this.#ended) return false;
      if (frame?.type === 'gap') gaps.push(frame);
      else if (typeof frame === 'object' && frame !== null) this.#options.onFrame(frame);
    }
    if (this.#ended) return false;
    // Only now: whatever stands before these positions has been handed over.
    this.#options.onPositions(answer.positions);
    for (const topic of Object.keys(answer.positions)) {
      if (!topic.startsWith('topic:') || this.#confirmed.has(topic)) continue;
      this.#confirmed.add(topic);
      this.#options.onFrame({ type: 'subscribed', topic });
    }
    // A gap goes back behind them.
    for (const gap of gaps) this.#options.onFrame(gap);
    return answer.more === true || gaps.length > 0;
  }

  /** @param {import('./connection.js').Ending} ending */
  #end(ending) {
    if (this.#ended) return;
    this.#ended = true;
    this.#asking?.abort();
    const liveMs = this.#upAt === undefined ? 0 : this.#options.clock.now() - this.#upAt;
    this.#options.onEnd({ ...ending, welcomed: this.#upAt !== undefined, liveMs });
  }
}
