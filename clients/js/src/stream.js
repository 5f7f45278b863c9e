import { EventLines } from './events.js';
import { absent, queryOf, refusal, tell } from './fallback.js';

const DEFAULT_HEARTBEAT_MS = 25_000;

/**
 * One event stream (`GET /api/v1/sse`) from opening to end. It never reconnects.
 *
 * It is read with `fetch` and not by an `EventSource`, which sends no header, tells no status and comes back by itself.
 */
export class EventStream {
  #options;
  #abort = new AbortController();
  /** @type {number | undefined} */
  #upAt;
  #heartbeatMs = DEFAULT_HEARTBEAT_MS;
  #heardAt = 0;
  #ended = false;
  /** @type {unknown} */
  #timer;
  /** @type {string | undefined} */
  #session;

  /** @param {import('./fallback.js').FallbackOptions} options */
  constructor(options) {
    this.#options = options;
    const { clock, openTimeoutMs } = options;
    // Something between here and the hub keeps the stream until it is whole: another way is needed at once.
    const silent = { code: 1006, reason: 'no welcome in time', blocked: true };
    this.#timer = clock.setTimeout(() => this.#end(silent), openTimeoutMs);
    void this.#read();
  }

  get live() {
    return this.#upAt !== undefined && !this.#ended;
  }

  /** @param {Record<string, any>} command */
  send(command) {
    if (!this.live) return false;
    return tell(this.#options, command, { session: this.#session, again: () => this.again() });
  }

  /** Ends so that the next stream is opened at once, from the positions that are known then. */
  again() {
    this.#end({ code: 1006, reason: 'opened anew', again: true });
  }

  /** Nothing can be asked of the hub; but a stream that should have said something has ended unnoticed. */
  probe() {
    if (this.live && this.#options.clock.now() - this.#heardAt > 2 * this.#heartbeatMs) this.#silence();
  }

  close() {
    this.#end({ code: 1000, reason: 'closed by the client' });
  }

  async #read() {
    const { base, fetch, token, wish } = this.#options;
    try {
      const response = await fetch(`${base}/api/v1/sse?${queryOf(wish())}`, {
        headers: { Authorization: `Bearer ${token}`, Accept: 'text/event-stream' },
        cache: 'no-store',
        signal: this.#abort.signal,
      });
      if (!response.ok) return this.#end(await refusal(response));
      const kind = response.headers.get('content-type') ?? '';
      const reader = response.body?.getReader();
      if (!kind.startsWith('text/event-stream') || !reader) return this.#end(absent('no event stream'));
      const lines = new EventLines((event) => this.#event(event));
      for (;;) {
        const { done, value } = await reader.read();
        if (this.#ended) return;
        if (done) return this.#end({ code: 1006, reason: 'the stream was cut' });
        this.#heard();
        lines.push(value);
      }
    } catch {
      this.#end({ code: 1006, reason: 'the server cannot be reached', unreachable: this.#upAt === undefined });
    }
  }

  /** @param {{ data: string | undefined, id: string | undefined }} event */
  #event({ data, id }) {
    if (this.#ended) return;
    const frame = data === undefined ? undefined : parse(data);
    const positions = id === undefined ? undefined : parse(id);
    if (frame?.type === 'close') {
      const hintMs = typeof frame.retry_after_ms === 'number' ? frame.retry_after_ms : undefined;
      return this.#end({ code: Number(frame.code), reason: String(frame.reason ?? ''), hintMs });
    }
    if (frame?.type === 'welcome') this.#welcomed(frame);
    // A gap goes back behind what the id says.
    const gap = frame?.type === 'gap';
    if (gap && positions) this.#options.onPositions(positions);
    if (frame) this.#options.onFrame(frame);
    // Only now: whatever stands before these positions has been handed over.
    if (!gap && positions && !this.#ended) this.#options.onPositions(positions);
  }

  /** @param {Record<string, any>} frame */
  #welcomed(frame) {
    if (this.#upAt !== undefined) return;
    this.#upAt = this.#options.clock.now();
    this.#session = typeof frame.session === 'string' ? frame.session : undefined;
    if (Number(frame.heartbeat_ms) > 0) this.#heartbeatMs = Number(frame.heartbeat_ms);
    this.#heard();
    this.#options.onUp();
  }

  #heard() {
    const { clock } = this.#options;
    this.#heardAt = clock.now();
    if (this.#upAt === undefined) return;
    clock.clearTimeout(this.#timer);
    this.#timer = clock.setTimeout(() => this.#silence(), 2 * this.#heartbeatMs);
  }

  #silence() {
    this.#end({ code: 1006, reason: 'nothing was heard for two heartbeats' });
  }

  /** @param {import('./connection.js').Ending} ending */
  #end(ending) {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.clock.clearTimeout(this.#timer);
    this.#abort.abort();
    const liveMs = this.#upAt === undefined ? 0 : this.#options.clock.now() - this.#upAt;
    this.#options.onEnd({ ...ending, welcomed: this.#upAt !== undefined, liveMs });
  }
}

/**
 * @param {string} text
 * @returns {Record<string, any> | undefined}
 */
function parse(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined; // Of a later protocol; no reason to lose the stream.
  }
}
