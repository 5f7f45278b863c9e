/** No more than one question in this time, so that a stream of arrivals stays far below the limit of requests. */
const SPACING_MS = 2_000;

/**
 * The unread count: given by the server, raised by one with each arrival, and asked for again soon after, because not
 * every frame has a row in the inbox.
 */
export class UnreadCount {
  /** @type {number | undefined} */
  #count;
  /** Grows with each change; an answer that a change overtook is asked for again. */
  #version = 0;
  /** How often the server said the count by itself. */
  told = 0;
  /** @type {unknown} */
  #timer;
  #dueAt = 0;
  #askedAt = Number.NEGATIVE_INFINITY;
  #clock;
  #ask;
  #tell;

  /**
   * @param {{ clock: import('./clock.js').Clock, ask: () => Promise<number>, tell: (count: number) => void }} options
   */
  constructor({ clock, ask, tell }) {
    this.#clock = clock;
    this.#ask = ask;
    this.#tell = tell;
  }

  /** @param {number} count the server's own word, which is newer than any question under way */
  set(count) {
    this.stop();
    this.told += 1;
    this.#version += 1;
    this.#change(count);
  }

  arrived() {
    this.#version += 1;
    if (this.#count !== undefined) this.#change(this.#count + 1);
    this.refresh(SPACING_MS);
  }

  /** @param {number} [withinMs] */
  refresh(withinMs = 0) {
    const now = this.#clock.now();
    const due = Math.max(now + withinMs, this.#askedAt + SPACING_MS);
    if (this.#timer !== undefined) {
      if (this.#dueAt <= due) return;
      this.#clock.clearTimeout(this.#timer);
    }
    this.#dueAt = due;
    this.#timer = this.#clock.setTimeout(() => this.#refreshNow(), due - now);
  }

  stop() {
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  async #refreshNow() {
    this.#timer = undefined;
    this.#askedAt = this.#clock.now();
    const version = this.#version;
    let count;
    try {
      count = await this.#ask();
    } catch {
      return; // The next arrival or reconnect asks again, and those paths report the server's absence.
    }
    if (version === this.#version) this.#change(count);
    else this.refresh();
  }

  /** @param {number} count */
  #change(count) {
    if (count === this.#count) return;
    this.#count = count;
    this.#tell(count);
  }
}
