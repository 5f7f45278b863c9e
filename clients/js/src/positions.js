/**
 * How far each topic was handed over, in the hub's opaque positions.
 *
 * While a `resume` is under way, live frames can overtake the replay. Were their positions stored, a cut before the
 * replay's end would lose what lies between. So a resuming topic's newer position is held aside until the hub says
 * `recovered` (or `resync`). Storing too old a position is harmless: the repeat is dropped by its id.
 */
export class Positions {
  /** @type {Map<string, string>} */
  #stored = new Map();
  /** @type {Map<string, string | undefined>} resuming topic to the newest position met meanwhile */
  #resuming = new Map();

  /** @param {Record<string, string>} [initial] */
  constructor(initial = {}) {
    for (const [topic, position] of Object.entries(initial)) this.#stored.set(topic, position);
  }

  /** @param {string} topic */
  has(topic) {
    return this.#stored.has(topic);
  }

  /** @param {string} topic */
  get(topic) {
    return this.#stored.get(topic);
  }

  /** @returns {Record<string, string>} */
  all() {
    return Object.fromEntries(this.#stored);
  }

  /**
   * A frame of this topic was handed over, or the hub said that nothing before this position is ours.
   * @param {string} topic
   * @param {string} position
   */
  advance(topic, position) {
    if (this.#resuming.has(topic)) this.#resuming.set(topic, position);
    else this.#stored.set(topic, position);
  }

  /**
   * Marks topics as resuming and answers where from; topics without a stored position are left out.
   * @param {Iterable<string>} topics
   * @returns {Record<string, string>}
   */
  beginResume(topics) {
    /** @type {Record<string, string>} */
    const from = {};
    for (const topic of topics) {
      const position = this.#stored.get(topic);
      if (position === undefined) continue;
      from[topic] = position;
      this.#resuming.set(topic, undefined);
    }
    return from;
  }

  /**
   * Whether a replay of the topic is under way.
   * @param {string} topic
   */
  resuming(topic) {
    return this.#resuming.has(topic);
  }

  /**
   * The replay up to these positions was handed over.
   * @param {Record<string, string>} positions
   */
  recovered(positions) {
    for (const [topic, position] of Object.entries(positions)) {
      this.#resuming.delete(topic);
      this.#stored.set(topic, position);
    }
  }

  /**
   * There will be no replay for this topic. The old position stays where nothing newer is known, so that the next
   * resume is refused as well instead of skipping silently.
   * @param {string} topic
   */
  lost(topic) {
    const newest = this.#resuming.get(topic);
    this.#resuming.delete(topic);
    if (newest !== undefined) this.#stored.set(topic, newest);
  }

  /**
   * The hub dropped frames after this position.
   * @param {string} topic
   * @param {string} position
   */
  rewind(topic, position) {
    this.#resuming.delete(topic);
    this.#stored.set(topic, position);
  }

  /**
   * All topics at once, as the ways below the socket give them: what is not among them was lost.
   * @param {Record<string, string>} positions
   */
  replaceAll(positions) {
    this.#resuming.clear();
    this.#stored = new Map(Object.entries(positions));
  }

  /** @param {string} topic */
  forget(topic) {
    this.#resuming.delete(topic);
    this.#stored.delete(topic);
  }

  /** The socket is gone: unfinished replays will be asked for again, from the stored positions. */
  disconnected() {
    this.#resuming.clear();
  }
}
