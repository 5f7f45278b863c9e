/** Events to listeners, in the order in which they subscribed. A listener that throws hurts no other listener. */
export class Emitter {
  /** @type {Map<string, Set<(value: any) => void>>} */
  #listeners = new Map();
  #onThrow;

  /** @param {(error: unknown, event: string) => void} onThrow */
  constructor(onThrow) {
    this.#onThrow = onThrow;
  }

  /**
   * @param {string} event
   * @param {(value: any) => void} listener
   * @returns {() => void} ends the subscription
   */
  on(event, listener) {
    let set = this.#listeners.get(event);
    if (!set) this.#listeners.set(event, (set = new Set()));
    const own = set;
    own.add(listener);
    return () => own.delete(listener);
  }

  /**
   * @param {string} event
   * @param {unknown} value
   */
  emit(event, value) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        this.#onThrow(error, event);
      }
    }
  }
}
