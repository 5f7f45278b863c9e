import { Backoff } from './backoff.js';
import { Pause } from './clock.js';
import { Connection } from './connection.js';
import { CarillonError } from './errors.js';
import { CloseCode, judgeClose } from './protocol.js';

/** Failed tries in a row before polling begins. */
const TRIES_BEFORE_POLLING = 3;
/** A connection that held this long was a success; a shorter one counts as a failed try. */
const STABLE_MS = 5_000;
const POLL_WAIT_S = 25;
/** Between two polls: a busy inbox must not use up a person's 100 requests a minute. */
const POLL_GAP_MS = 2_000;
const DEFAULT_TIMING = {
  openTimeoutMs: 8_000,
  pingEveryMs: 25_000,
  pongTimeoutMs: 10_000,
  backoffBaseMs: 500,
  backoffCapMs: 30_000,
};

/**
 * The ladder of transports: WebSocket; after three failed tries in a row long polling, while WebSocket is tried on in
 * the background; and back up as soon as it works. It knows nothing of what the frames and pages say.
 */
export class Ladder {
  #o;
  #timing;
  #socketPause;
  #pollPause;
  /** @type {Connection | undefined} */
  #connection;
  /** @type {AbortController | undefined} */
  #polling;
  /** @type {AbortController | undefined} */
  #life;
  /** @type {import('./index.js').StateName} */
  #state = 'closed';
  #failures = 0;
  /** @type {number | undefined} */
  #hintMs;
  /** @type {{ resolve: () => void, reject: (error: unknown) => void } | undefined} */
  #ready;
  #wake = () => this.wake();

  /**
   * @param {{
   *   clock: import('./clock.js').Clock,
   *   random: () => number,
   *   tokens: import('./token.js').TokenSource,
   *   WebSocket: any,
   *   url: string,
   *   wakeUps: Pick<EventTarget, 'addEventListener' | 'removeEventListener'> | object,
   *   timing?: Partial<typeof DEFAULT_TIMING> | undefined,
   *   pull: (waitS: number, signal: AbortSignal) => Promise<{ count: number, more: boolean }>,
   *   onFrame: (frame: Record<string, any>) => void,
   *   onDown: () => void,
   *   onState: (state: import('./index.js').State) => void,
   *   onError: (error: unknown) => void,
   *   onClosed: () => void,
   * }} options
   */
  constructor(options) {
    this.#o = options;
    this.#timing = { ...DEFAULT_TIMING, ...options.timing };
    this.#socketPause = new Pause(options.clock);
    this.#pollPause = new Pause(options.clock);
  }

  get state() {
    return this.#state;
  }

  /**
   * Begins; resolves when news can arrive, by socket or by polling, and rejects when the client had to give up.
   * @returns {Promise<void>}
   */
  start() {
    if (this.#life) return Promise.resolve();
    const life = new AbortController();
    this.#life = life;
    this.#failures = 0;
    this.#listen('addEventListener');
    const ready = new Promise((resolve, reject) => {
      this.#ready = { resolve: () => resolve(undefined), reject };
    });
    this.#setState('connecting');
    void this.#climb(life.signal);
    return /** @type {Promise<void>} */ (ready);
  }

  close() {
    this.#finish(undefined);
  }

  /**
   * Whether the error means that this client's token will not be accepted again; then everything ends.
   * @param {unknown} error
   */
  refused(error) {
    if (!(error instanceof CarillonError) || error.status !== 401) return false;
    if (error.code !== 'signed_out' && this.#o.tokens.renewable) return false;
    this.#finish(new CarillonError(error.code, error.message, { status: 401, terminal: true, cause: error }));
    return true;
  }

  /** @param {Record<string, unknown>} command */
  send(command) {
    return this.#connection?.live === true && this.#connection.send(command);
  }

  /** @param {unknown} retryAfterMs when the hub asked us to come back, should it close now */
  hint(retryAfterMs) {
    if (typeof retryAfterMs === 'number' && retryAfterMs >= 0) this.#hintMs = retryAfterMs;
  }

  /** The network is back, or somebody looks at the page again: look now, not when the timer says so. */
  wake() {
    this.#connection?.probe();
    this.#socketPause.wake();
    this.#pollPause.wake();
  }

  /** @param {AbortSignal} signal */
  async #climb(signal) {
    const { backoffBaseMs: baseMs, backoffCapMs: capMs } = this.#timing;
    const backoff = new Backoff({ baseMs, capMs, random: this.#o.random });
    while (!signal.aborted) {
      const next = await this.#oneTry(signal);
      if (signal.aborted) return;
      if (next.good) {
        this.#failures = 0;
        backoff.reset();
      } else if (next.broken) {
        this.#failures = Math.max(this.#failures + 1, TRIES_BEFORE_POLLING);
      } else if (!next.planned) {
        this.#failures += 1;
      }
      const delay = backoff.next(next);
      if (this.#failures >= TRIES_BEFORE_POLLING) this.#startPolling();
      else if (!this.#polling) this.#setState('connecting', delay);
      await this.#socketPause.sleep(delay, signal);
    }
  }

  /**
   * One socket, from the token to its end.
   * @param {AbortSignal} signal
   * @returns {Promise<{ good: boolean, planned: boolean, broken?: boolean, hintMs?: number | undefined, floorMs?: number }>}
   */
  async #oneTry(signal) {
    const failed = { good: false, planned: false };
    let token;
    try {
      token = await this.#o.tokens.get();
    } catch (error) {
      this.#o.onError(new CarillonError('token', 'no token could be had', { cause: error }));
      return failed;
    }
    if (signal.aborted) return failed;
    if (token === null) {
      this.#finish(new CarillonError('signed_out', 'there is no token', { terminal: true }));
      return failed;
    }
    this.#hintMs = undefined;
    const end = await this.#connect(token);
    if (signal.aborted) return failed;
    this.#connection = undefined;
    this.#o.onDown();
    const verdict = judgeClose(end.code, end.reason);
    if (verdict.renewToken) this.#o.tokens.reject(token);
    const dead = verdict.terminal || (verdict.renewToken && !this.#o.tokens.renewable);
    if (dead) {
      const code = verdict.renewToken ? 'unauthorized' : end.code === CloseCode.NORMAL ? 'closed' : 'disconnected';
      this.#finish(new CarillonError(code, end.reason || 'the hub closed for good', { terminal: true }));
      return failed;
    }
    return {
      good: end.welcomed && !verdict.broken && (verdict.planned || end.liveMs >= STABLE_MS),
      planned: verdict.planned,
      broken: verdict.broken,
      hintMs: verdict.hintMs ?? this.#hintMs,
      floorMs: verdict.floorMs,
    };
  }

  /**
   * @param {string} token
   * @returns {Promise<import('./connection.js').End>}
   */
  #connect(token) {
    return new Promise((resolve) => {
      try {
        this.#connection = new Connection({
          WebSocket: this.#o.WebSocket,
          url: this.#o.url,
          token,
          clock: this.#o.clock,
          openTimeoutMs: this.#timing.openTimeoutMs,
          pingEveryMs: this.#timing.pingEveryMs,
          pongTimeoutMs: this.#timing.pongTimeoutMs,
          onFrame: (frame) => {
            if (frame.type === 'welcome') this.#live();
            this.#o.onFrame(frame);
          },
          onEnd: resolve,
        });
      } catch (error) {
        this.#o.onError(new CarillonError('socket', 'the socket could not be made', { cause: error }));
        resolve({ code: 1006, reason: '', welcomed: false, liveMs: 0 });
      }
    });
  }

  #live() {
    this.#polling?.abort();
    this.#polling = undefined;
    this.#setState('live');
  }

  #startPolling() {
    if (this.#polling) return;
    this.#polling = new AbortController();
    void this.#poll(this.#polling.signal);
  }

  /** @param {AbortSignal} signal */
  async #poll(signal) {
    const { backoffBaseMs: baseMs, backoffCapMs: capMs } = this.#timing;
    const backoff = new Backoff({ baseMs, capMs, random: this.#o.random });
    let waitS = 0; // The first answers at once: it says whether polling works at all.
    while (!signal.aborted) {
      let pauseMs = 0;
      try {
        const startedAt = this.#o.clock.now();
        const page = await this.#o.pull(waitS, signal);
        if (signal.aborted) return;
        backoff.reset();
        this.#setState('polling');
        // A server that does not hold empty answers shall not be asked without end.
        const held = this.#o.clock.now() - startedAt >= POLL_GAP_MS;
        if (waitS > 0 && !page.more && !(page.count === 0 && held)) pauseMs = POLL_GAP_MS;
        waitS = page.more ? 0 : POLL_WAIT_S;
      } catch (error) {
        if (signal.aborted || this.refused(error)) return;
        const known = error instanceof CarillonError ? error : undefined;
        if (known?.code === 'unreachable') this.#setState('offline');
        else this.#o.onError(error);
        waitS = 0;
        pauseMs = backoff.next({ hintMs: known?.retryAfterMs });
      }
      if (pauseMs > 0) await this.#pollPause.sleep(pauseMs, signal);
    }
  }

  /**
   * @param {import('./index.js').StateName} state
   * @param {number} [retryInMs]
   */
  #setState(state, retryInMs) {
    const previous = this.#state;
    if (state === previous && retryInMs === undefined) return;
    this.#state = state;
    if (state === 'live' || state === 'polling') this.#ready?.resolve();
    this.#o.onState({ state, previous, failures: this.#failures, retryInMs });
  }

  /** @param {CarillonError | undefined} error why, where it was not the application's wish */
  #finish(error) {
    const life = this.#life;
    if (!life) return;
    this.#listen('removeEventListener');
    life.abort();
    this.#life = undefined;
    this.#polling?.abort();
    this.#polling = undefined;
    this.#connection?.close();
    this.#connection = undefined;
    this.#o.onClosed();
    this.#setState('closed');
    if (error) {
      this.#o.onError(error);
      this.#ready?.reject(error);
    } else {
      this.#ready?.resolve();
    }
  }

  /** @param {'addEventListener' | 'removeEventListener'} method */
  #listen(method) {
    const target = /** @type {any} */ (this.#o.wakeUps);
    target[method]?.('online', this.#wake);
    // Dispatched at the document, and bubbling to the window.
    target[method]?.('visibilitychange', this.#wake);
  }
}
