/**
 * Full-jitter exponential back-off: a delay drawn evenly from zero to a bound that doubles, so that clients which lost
 * the same server do not come back in step.
 */
export class Backoff {
  #attempt = 0;
  #random;

  /** @param {{ baseMs?: number, capMs?: number, random?: () => number }} [options] */
  constructor({ baseMs = 500, capMs = 30_000, random = Math.random } = {}) {
    this.baseMs = baseMs;
    this.capMs = capMs;
    this.#random = random;
  }

  /** Tries since the last reset. */
  get attempt() {
    return this.#attempt;
  }

  reset() {
    this.#attempt = 0;
  }

  /**
   * The delay before the next try, in milliseconds.
   *
   * A server's hint is a promise about when it will be there: we never come earlier, and not all at its last
   * millisecond either. A hint may exceed the cap.
   * @param {{ hintMs?: number | undefined, floorMs?: number | undefined }} [bounds]
   */
  next({ hintMs, floorMs = 0 } = {}) {
    const bound = Math.min(this.capMs, this.baseMs * 2 ** Math.min(this.#attempt, 30));
    this.#attempt += 1;
    const jitter = this.#random() * bound;
    if (hintMs !== undefined) return Math.round(hintMs + Math.min(jitter, hintMs / 2 + 250));
    return Math.round(Math.max(jitter, floorMs));
  }
}
