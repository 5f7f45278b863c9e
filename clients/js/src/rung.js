import { Backoff } from './backoff.js';
import { Pause } from './clock.js';
import { CarillonError } from './errors.js';
import { CloseCode, judgeClose } from './protocol.js';

/** Failed tries in a row before the next rung is stood upon. */
const TRIES = 3;
/** A connection that held this long was a success; a shorter one counts as a failed try. */
const STABLE_MS = 5_000;

/**
 * What a rung's connections have in common.
 * @typedef {object} Way
 * @property {boolean} live
 * @property {(command: Record<string, any>) => boolean} send
 * @property {() => void} probe
 * @property {() => void} close
 */

/**
 * One rung of the ladder: one way, tried again and again with back-off until it is not wanted any more. It goes on
 * being tried while the rungs below hold the client up, which is how the client comes back up.
 */
export class Rung {
  #o;
  #pause;
  /** @type {AbortController | undefined} */
  #life;
  /** @type {Way | undefined} */
  #way;
  /** @type {number | undefined} */
  #hintMs;
  failures = 0;

  /**
   * @param {{
   *   clock: import('./clock.js').Clock,
   *   random: () => number,
   *   baseMs: number,
   *   capMs: number,
   *   tokens: import('./token.js').TokenSource,
   *   open: (token: string, up: () => void, end: (end: import('./connection.js').End) => void) => Way,
   *   onUp: () => void,
   *   onDown: () => void,
   *   onFailed: (delayMs: number, down: boolean) => void,
   *   onDead: (error: CarillonError) => void,
   *   onError: (error: unknown) => void,
   * }} options `onFailed`: `down` says that the next rung is needed
   */
  constructor(options) {
    this.#o = options;
    this.#pause = new Pause(options.clock);
  }

  get live() {
    return this.#way?.live === true;
  }

  get wanted() {
    return this.#life !== undefined;
  }

  start() {
    if (this.#life) return;
    this.#life = new AbortController();
    this.failures = 0;
    void this.#climb(this.#life.signal);
  }

  stop() {
    this.#life?.abort();
    this.#life = undefined;
    const way = this.#way;
    this.#way = undefined;
    way?.close();
  }

  /** @param {Record<string, any>} command */
  send(command) {
    return this.#way?.live === true && this.#way.send(command);
  }

  /** @param {number} milliseconds when the hub asked us to come back, should it close now */
  hint(milliseconds) {
    this.#hintMs = milliseconds;
  }

  wake() {
    this.#way?.probe();
    this.#pause.wake();
  }

  /** @param {AbortSignal} signal */
  async #climb(signal) {
    const { baseMs, capMs, random } = this.#o;
    const backoff = new Backoff({ baseMs, capMs, random });
    while (!signal.aborted) {
      const next = await this.#oneTry(signal);
      if (signal.aborted) return;
      if (next.again) continue;
      if (next.good) {
        this.failures = 0;
        backoff.reset();
      } else if (next.useless) {
        this.failures = Math.max(this.failures + 1, TRIES);
      } else if (!next.planned) {
        this.failures += 1;
      }
      const delay = backoff.next(next);
      this.#o.onFailed(delay, this.failures >= TRIES);
      await this.#pause.sleep(delay, signal);
    }
  }

  /**
   * One connection, from the token to its end.
   * @param {AbortSignal} signal
   * @returns {Promise<{ good: boolean, planned: boolean, again?: boolean, useless?: boolean, hintMs?: number | undefined, floorMs?: number }>}
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
      this.#o.onDead(new CarillonError('signed_out', 'there is no token', { terminal: true }));
      return failed;
    }
    this.#hintMs = undefined;
    const end = await this.#connect(token, signal);
    if (signal.aborted) return failed;
    this.#way = undefined;
    if (end.again === true) return { ...failed, again: true };
    this.#o.onDown();
    if (end.error) this.#o.onError(end.error);
    const verdict = judgeClose(end.code, end.reason);
    if (verdict.renewToken) this.#o.tokens.reject(token);
    if (verdict.terminal || (verdict.renewToken && !this.#o.tokens.renewable)) {
      const code = verdict.renewToken ? 'unauthorized' : end.code === CloseCode.NORMAL ? 'closed' : 'disconnected';
      this.#o.onDead(new CarillonError(code, end.reason || 'the hub closed for good', { terminal: true }));
      return failed;
    }
    return {
      good: end.welcomed && !verdict.broken && (verdict.planned || end.liveMs >= STABLE_MS),
      planned: verdict.planned,
      useless: verdict.broken || end.blocked === true || end.unreachable === true,
      hintMs: end.hintMs ?? verdict.hintMs ?? this.#hintMs,
      floorMs: Math.max(verdict.floorMs, end.floorMs ?? 0),
    };
  }

  /**
   * @param {string} token
   * @param {AbortSignal} signal
   * @returns {Promise<import('./connection.js').End>}
   */
  #connect(token, signal) {
    return new Promise((resolve) => {
      try {
        const up = () => {
          if (!signal.aborted) this.#o.onUp();
        };
        this.#way = this.#o.open(token, up, resolve);
      } catch (error) {
        this.#o.onError(new CarillonError('socket', 'the socket could not be made', { cause: error }));
        resolve({ code: 1006, reason: '', welcomed: false, liveMs: 0 });
      }
    });
  }
}
