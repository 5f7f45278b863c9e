import { Backoff } from './backoff.js';
import { Pause } from './clock.js';
import { CarillonError } from './errors.js';

const WAIT_S = 25;
/** Between two polls: a busy inbox must not use up a person's 100 requests a minute. */
const GAP_MS = 2_000;

/**
 * The last way: the inbox's change feed, asked again and again. It brings notifications and nothing else.
 */
export class InboxPolling {
  #o;
  #pause;
  /** @type {AbortController | undefined} */
  #life;

  /**
   * @param {{
   *   clock: import('./clock.js').Clock,
   *   random: () => number,
   *   baseMs: number,
   *   capMs: number,
   *   pull: (waitS: number, signal: AbortSignal) => Promise<{ count: number, more: boolean }>,
   *   onUp: () => void,
   *   onUnreachable: () => void,
   *   onError: (error: unknown) => void,
   *   refused: (error: unknown) => boolean,
   * }} options
   */
  constructor(options) {
    this.#o = options;
    this.#pause = new Pause(options.clock);
  }

  start() {
    if (this.#life) return;
    this.#life = new AbortController();
    void this.#poll(this.#life.signal);
  }

  stop() {
    this.#life?.abort();
    this.#life = undefined;
  }

  wake() {
    this.#pause.wake();
  }

  /** @param {AbortSignal} signal */
  async #poll(signal) {
    const { baseMs, capMs, random } = this.#o;
    const backoff = new Backoff({ baseMs, capMs, random });
    let waitS = 0; // The first answers at once: it says whether polling works at all.
    while (!signal.aborted) {
      let pauseMs = 0;
      try {
        const startedAt = this.#o.clock.now();
        const page = await this.#o.pull(waitS, signal);
        if (signal.aborted) return;
        backoff.reset();
        this.#o.onUp();
        // A server that does not hold empty answers shall not be asked without end.
        const held = this.#o.clock.now() - startedAt >= GAP_MS;
        if (waitS > 0 && !page.more && !(page.count === 0 && held)) pauseMs = GAP_MS;
        waitS = page.more ? 0 : WAIT_S;
      } catch (error) {
        if (signal.aborted || this.#o.refused(error)) return;
        const known = error instanceof CarillonError ? error : undefined;
        if (known?.code === 'unreachable') this.#o.onUnreachable();
        else this.#o.onError(error);
        waitS = 0;
        pauseMs = backoff.next({ hintMs: known?.retryAfterMs });
      }
      if (pauseMs > 0) await this.#pause.sleep(pauseMs, signal);
    }
  }
}
