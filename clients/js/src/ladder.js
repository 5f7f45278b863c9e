import { Connection } from './connection.js';
import { CarillonError } from './errors.js';
import { InboxPolling } from './inbox.js';
import { LongPoll } from './poll.js';
import { Rung } from './rung.js';
import { EventStream } from './stream.js';

const DEFAULT_TIMING = {
  openTimeoutMs: 8_000,
  pingEveryMs: 25_000,
  pongTimeoutMs: 10_000,
  backoffBaseMs: 500,
  backoffCapMs: 30_000,
};

/**
 * The ladder of transports: WebSocket, event stream, long polling, and the inbox's feed. A rung that fails three times
 * in a row, or that something on the way blocks, brings up the one below it; a rung that works ends those below. Each
 * is tried on in the background as long as it is not the one in use. The ladder knows nothing of what frames say.
 */
export class Ladder {
  #o;
  /** @type {{ name: import('./index.js').Transport, rung: Rung }[]} from above */
  #rungs;
  #inbox;
  #alive = false;
  /** @type {import('./index.js').StateName} */
  #state = 'closed';
  /** @type {import('./index.js').Transport | undefined} */
  #via;
  /** @type {{ resolve: () => void, reject: (error: unknown) => void } | undefined} */
  #ready;
  #wake = () => this.wake();

  /**
   * @param {{
   *   clock: import('./clock.js').Clock,
   *   random: () => number,
   *   tokens: import('./token.js').TokenSource,
   *   WebSocket: any,
   *   fetch: typeof globalThis.fetch,
   *   base: string,
   *   wakeUps: Pick<EventTarget, 'addEventListener' | 'removeEventListener'> | object,
   *   timing?: Partial<typeof DEFAULT_TIMING> | undefined,
   *   wish: () => import('./fallback.js').Wish,
   *   pull: (waitS: number, signal: AbortSignal) => Promise<{ count: number, more: boolean }>,
   *   onUp: () => void,
   *   onFrame: (frame: Record<string, any>) => void,
   *   onPositions: (positions: Record<string, string>) => void,
   *   onUnsent: (ids: string[]) => void,
   *   onDown: () => void,
   *   onState: (state: import('./index.js').State) => void,
   *   onError: (error: unknown) => void,
   *   onClosed: () => void,
   * }} options `onUp`, `onPositions`: of the rungs whose requests carry the positions; a socket is welcomed by a frame
   */
  constructor(options) {
    this.#o = options;
    const timing = { ...DEFAULT_TIMING, ...options.timing };
    const { clock, random, tokens } = options;
    const pace = { clock, random, baseMs: timing.backoffBaseMs, capMs: timing.backoffCapMs };
    const make = (/** @type {import('./index.js').Transport} */ name, /** @type {any} */ open, /** @type {number} */ number) => ({
      name,
      rung: new Rung({
        ...pace,
        tokens,
        open,
        onUp: () => this.#up(number),
        onDown: () => this.#down(number),
        onFailed: (delayMs, down) => this.#failed(number, delayMs, down),
        onDead: (error) => this.#finish(error),
        onError: options.onError,
      }),
    });
    this.#rungs = [
      make('websocket', this.#openSocket(timing), 0),
      make('sse', this.#openFallback(EventStream, timing, 1), 1),
      make('poll', this.#openFallback(LongPoll, timing, 2), 2),
    ];
    this.#inbox = new InboxPolling({
      ...pace,
      pull: options.pull,
      onUp: () => this.#setState('polling', 'inbox'),
      onUnreachable: () => this.#setState('offline', undefined),
      onError: options.onError,
      refused: (error) => this.refused(error),
    });
  }

  get state() {
    return this.#state;
  }

  /** The way that is in use. */
  get via() {
    return this.#via;
  }

  /**
   * Begins; resolves when news can arrive, by whatever way, and rejects when the client had to give up.
   * @returns {Promise<void>}
   */
  start() {
    if (this.#alive) return Promise.resolve();
    this.#alive = true;
    this.#listen('addEventListener');
    const ready = new Promise((resolve, reject) => {
      this.#ready = { resolve: () => resolve(undefined), reject };
    });
    this.#setState('connecting', undefined);
    this.#rungs[0]?.rung.start();
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
    return this.#inUse()?.send(command) === true;
  }

  /** @param {unknown} retryAfterMs when the hub asked us to come back, should it close now */
  hint(retryAfterMs) {
    if (typeof retryAfterMs === 'number' && retryAfterMs >= 0) this.#inUse()?.hint(retryAfterMs);
  }

  /** The network is back, or somebody looks at the page again: look now, not when the timer says so. */
  wake() {
    for (const { rung } of this.#rungs) rung.wake();
    this.#inbox.wake();
  }

  #inUse() {
    return this.#rungs.find(({ rung }) => rung.live)?.rung;
  }

  /** @param {typeof DEFAULT_TIMING} timing */
  #openSocket(timing) {
    const url = `${this.#o.base.replace(/^http/, 'ws')}/api/v1/ws`;
    return (/** @type {string} */ token, /** @type {() => void} */ up, /** @type {any} */ onEnd) =>
      new Connection({
        WebSocket: this.#o.WebSocket,
        url,
        token,
        clock: this.#o.clock,
        openTimeoutMs: timing.openTimeoutMs,
        pingEveryMs: timing.pingEveryMs,
        pongTimeoutMs: timing.pongTimeoutMs,
        onFrame: (frame) => {
          // First the rungs below end, so that nothing of theirs comes between.
          if (frame.type === 'welcome') up();
          this.#o.onFrame(frame);
        },
        onEnd,
      });
  }

  /**
   * @param {typeof EventStream | typeof LongPoll} Way
   * @param {typeof DEFAULT_TIMING} timing
   * @param {number} number
   */
  #openFallback(Way, timing, number) {
    const { base, fetch, clock, wish, onFrame, onPositions, onUnsent } = this.#o;
    return (/** @type {string} */ token, /** @type {() => void} */ up, /** @type {any} */ onEnd) =>
      new Way({
        base,
        fetch,
        token,
        clock,
        openTimeoutMs: timing.openTimeoutMs,
        wish,
        onUp: () => {
          up();
          // A socket that came meanwhile has its own welcome.
          if (this.#rungs[number]?.rung.wanted) this.#o.onUp();
        },
        onFrame,
        onPositions,
        onUnsent,
        onEnd,
      });
  }

  /** @param {number} number */
  #up(number) {
    for (const { rung } of this.#rungs.slice(number + 1)) rung.stop();
    this.#inbox.stop();
    const { name } = /** @type {{ name: import('./index.js').Transport }} */ (this.#rungs[number]);
    this.#setState(name === 'poll' ? 'polling' : 'live', name);
  }

  /** @param {number} number */
  #down(number) {
    // One that was only being tried takes nothing away from the rung in use.
    if (this.#rungs[number]?.name !== this.#via) return;
    this.#via = undefined;
    this.#o.onDown();
  }

  /**
   * @param {number} number
   * @param {number} delayMs
   * @param {boolean} down
   */
  #failed(number, delayMs, down) {
    if (!this.#alive) return;
    if (down) {
      const below = this.#rungs[number + 1];
      if (below) below.rung.start();
      else this.#inbox.start();
    }
    // Whoever is held up by another rung, or by none at all, stays where it is.
    const lost = this.#via === undefined && (this.#state === 'live' || this.#state === 'polling');
    const climbing = number === 0 && !this.#rungs[1]?.rung.wanted;
    if (lost || climbing) this.#setState('connecting', undefined, delayMs);
  }

  /**
   * @param {import('./index.js').StateName} state
   * @param {import('./index.js').Transport | undefined} via
   * @param {number} [retryInMs]
   */
  #setState(state, via, retryInMs) {
    const previous = this.#state;
    const same = state === previous && via === this.#via;
    this.#via = via;
    if (same && retryInMs === undefined) return;
    this.#state = state;
    if (state === 'live' || state === 'polling') this.#ready?.resolve();
    this.#o.onState({ state, previous, via, failures: this.#rungs[0]?.rung.failures ?? 0, retryInMs });
  }

  /** @param {CarillonError | undefined} error why, where it was not the application's wish */
  #finish(error) {
    if (!this.#alive) return;
    this.#alive = false;
    this.#listen('removeEventListener');
    for (const { rung } of this.#rungs) rung.stop();
    this.#inbox.stop();
    this.#o.onClosed();
    this.#setState('closed', undefined);
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
