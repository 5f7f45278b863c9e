import { SUBPROTOCOL } from './protocol.js';

/** As the standard says; the injected class need not have the constants. */
const OPEN = 1;

/**
 * How a connection ended.
 * @typedef {object} Ending
 * @property {number} code the close code; 1006 where there was none
 * @property {string} reason
 * @property {number} [hintMs] when the server asked us to come back
 * @property {number} [floorMs] earliest time to try this way again
 * @property {boolean} [blocked] this way does not lead to the hub
 * @property {boolean} [unreachable] nobody answered at all
 * @property {boolean} [again] ended by ourselves, to be opened anew at once
 * @property {import('./errors.js').CarillonError} [error] what the application has to know
 *
 * @typedef {Ending & { welcomed: boolean, liveMs: number }} End `welcomed`: the hub had taken us in; `liveMs`: since then
 */

/**
 * One socket from opening to end. It never reconnects; `onEnd` is called exactly once.
 */
export class Connection {
  #socket;
  #clock;
  #options;
  /** @type {number | undefined} */
  #welcomedAt;
  #ended = false;
  /** @type {unknown} */
  #openTimer;
  /** @type {unknown} */
  #pingTimer;
  /** @type {unknown} */
  #pongTimer;

  /**
   * @param {{
   *   WebSocket: any,
   *   url: string,
   *   token: string,
   *   clock: import('./clock.js').Clock,
   *   openTimeoutMs: number,
   *   pingEveryMs: number,
   *   pongTimeoutMs: number,
   *   onFrame: (frame: Record<string, any>) => void,
   *   onEnd: (end: End) => void,
   * }} options
   */
  constructor(options) {
    this.#options = options;
    this.#clock = options.clock;
    // The token travels as a sub-protocol, beside the real one: a browser can set no header, and a URL gets logged.
    this.#socket = new options.WebSocket(options.url, [SUBPROTOCOL, `bearer.${options.token}`]);
    this.#openTimer = this.#clock.setTimeout(() => this.#end(1006, 'no welcome in time'), options.openTimeoutMs);
    this.#socket.onmessage = (/** @type {{ data: unknown }} */ event) => this.#receive(event.data);
    this.#socket.onerror = () => undefined; // `close` follows, and says more.
    this.#socket.onclose = (/** @type {{ code: number, reason: string }} */ event) =>
      this.#end(event.code, String(event.reason ?? ''));
  }

  get live() {
    return this.#welcomedAt !== undefined && !this.#ended;
  }

  /**
   * @param {Record<string, unknown>} command
   * @returns {boolean} whether the socket took it
   */
  send(command) {
    if (this.#ended || this.#socket.readyState !== OPEN) return false;
    this.#socket.send(JSON.stringify(command));
    return true;
  }

  /** Asks for a sign of life now, and ends the connection when none comes. */
  probe() {
    if (!this.live || this.#pongTimer !== undefined) return;
    this.send({ type: 'ping' });
    this.#pongTimer = this.#clock.setTimeout(() => this.#end(1006, 'no pong in time'), this.#options.pongTimeoutMs);
  }

  close() {
    this.#end(1000, 'closed by the client');
  }

  /** @param {unknown} data */
  #receive(data) {
    if (this.#ended) return;
    if (this.#pongTimer !== undefined) this.#clock.clearTimeout(this.#pongTimer);
    this.#pongTimer = undefined;
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return; // A frame of a later protocol is no reason to lose the connection.
    }
    if (typeof frame !== 'object' || frame === null) return;
    if (frame.type === 'welcome' && this.#welcomedAt === undefined) this.#welcomed(frame);
    this.#options.onFrame(frame);
  }

  /** @param {Record<string, any>} frame */
  #welcomed(frame) {
    this.#welcomedAt = this.#clock.now();
    this.#clock.clearTimeout(this.#openTimer);
    const offered = Number(frame.heartbeat_ms);
    const every = offered > 0 ? Math.min(offered, this.#options.pingEveryMs) : this.#options.pingEveryMs;
    const tick = () => {
      this.probe();
      this.#pingTimer = this.#clock.setTimeout(tick, every);
    };
    this.#pingTimer = this.#clock.setTimeout(tick, every);
  }

  /**
   * On a dead network `close` comes minutes after we know, so the end is ours to declare.
   * @param {number} code
   * @param {string} reason
   */
  #end(code, reason) {
    if (this.#ended) return;
    this.#ended = true;
    for (const timer of [this.#openTimer, this.#pingTimer, this.#pongTimer]) this.#clock.clearTimeout(timer);
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    try {
      this.#socket.close();
    } catch {
      // Some implementations throw while connecting; the socket is abandoned all the same.
    }
    const welcomed = this.#welcomedAt !== undefined;
    const liveMs = this.#welcomedAt === undefined ? 0 : this.#clock.now() - this.#welcomedAt;
    this.#options.onEnd({ code, reason, welcomed, liveMs });
  }
}
