/**
 * The ids handed over lately, so that a frame that comes again (a replay, a live frame and the change feed, one copy for
 * each of several targets) reaches the application once. Bounded: the least recently met id is forgotten first.
 */
export class SeenIds {
  /** @type {Map<string, true>} a Map iterates in insertion order, which makes it the queue as well */
  #ids = new Map();

  /** @param {number} capacity */
  constructor(capacity) {
    this.capacity = capacity;
  }

  get size() {
    return this.#ids.size;
  }

  /** @param {string} id */
  has(id) {
    return this.#ids.has(id);
  }

  /**
   * Notes an id. Answers true when it is new.
   * @param {string} id
   */
  add(id) {
    const fresh = !this.#ids.delete(id);
    this.#ids.set(id, true);
    if (this.#ids.size > this.capacity) {
      const oldest = this.#ids.keys().next().value;
      if (oldest !== undefined) this.#ids.delete(oldest);
    }
    return fresh;
  }
}
