/**
 * The lines of an event stream (WHATWG HTML, section 9.2.6), as far as a hub writes them.
 */
export class EventLines {
  #decoder = new TextDecoder();
  #rest = '';
  /** @type {string[]} */
  #data = [];
  /** @type {string | undefined} */
  #id;
  #onEvent;

  /** @param {(event: { data: string | undefined, id: string | undefined }) => void} onEvent `id`: only where this event has one */
  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  /** @param {Uint8Array} bytes */
  push(bytes) {
    const text = this.#rest + this.#decoder.decode(bytes, { stream: true });
    // A lone CR at the end may be the first half of CR LF.
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line);
  }

  /** @param {string} line */
  #line(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'data') this.#data.push(value);
    else if (name === 'id') this.#id = value;
  }

  #dispatch() {
    const data = this.#data.length > 0 ? this.#data.join('\n') : undefined;
    const id = this.#id;
    this.#data = [];
    this.#id = undefined;
    if (data !== undefined || id !== undefined) this.#onEvent({ data, id });
  }
}
