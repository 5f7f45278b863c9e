/**
 * Receipts for frames that asked for one, sent together: one frame for all ids of up to `windowMs`.
 * What could not be sent waits for the next socket, bounded; the newest are kept.
 */
export class Acks {
  /** @type {Set<string>} */
  #waiting = new Set();
  /** @type {unknown} */
  #timer;
  #clock;
  #send;

  /**
   * @param {{ clock: import('./clock.js').Clock, send: (ids: string[]) => boolean, windowMs?: number, capacity?: number }} options
   */
  constructor({ clock, send, windowMs = 150, capacity = 1000 }) {
    this.#clock = clock;
    this.#send = send;
    this.windowMs = windowMs;
    this.capacity = capacity;
  }

  /** @param {string} id */
  add(id) {
    this.#waiting.add(id);
    if (this.#waiting.size > this.capacity) {
      const oldest = this.#waiting.values().next().value;
      if (oldest !== undefined) this.#waiting.delete(oldest);
    }
    this.#timer ??= this.#clock.setTimeout(() => this.flush(), this.windowMs);
  }

  flush() {
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#waiting.size > 0 && this.#send([...this.#waiting])) this.#waiting.clear();
  }

  stop() {
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
