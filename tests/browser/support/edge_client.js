import { once } from 'node:events';
import { request as httpsRequest } from 'node:https';
import WebSocket from 'ws';

const PATIENCE_MS = 20_000;

/** A client of the edge, by WebSocket and by HTTP/1.1, each request on a connection of its own. */
export class EdgeClient {
  #nginx;
  #address;

  /**
   * @param {import('./nginx.js').Nginx} nginx
   * @param {string} [address] this machine's address to come from: limits go by it
   */
  constructor(nginx, address = '127.0.0.1') {
    this.#nginx = nginx;
    this.#address = address;
  }

  /**
   * Opens a socket; answers with it when it is welcomed.
   * @param {string} token
   * @param {{ path?: string, headers?: Record<string, string> }} [options]
   */
  async socket(token, { path = '/api/v1/ws', headers = {} } = {}) {
    const url = `wss://localhost:${this.#nginx.port}${path}?token=${token}`;
    const socket = new Socket(new WebSocket(url, ['carillon.v1'], { ...this.#connection(), headers }));
    const { node } = await socket.frame(({ type }) => type === 'welcome');
    socket.node = node;
    return socket;
  }

  /**
   * @param {string} target path and query
   * @param {{ method?: string, headers?: Record<string, string>, body?: string, whole?: boolean }} [options] `whole`: false
   * answers with the stream when the head is there
   */
  async request(target, { method = 'GET', headers = {}, body, whole = true } = {}) {
    const request = httpsRequest({
      ...this.#connection(),
      ...{ host: 'localhost', port: this.#nginx.port, path: target, method, headers, agent: false, timeout: PATIENCE_MS },
    });
    request.on('timeout', () => request.destroy(new Error(`${method} ${target.split('?')[0]}: no answer`)));
    request.end(body);
    const [response] = await once(request, 'response');
    response.setEncoding('utf8');
    const answer = { status: response.statusCode, headers: response.headers, stream: response, text: '' };
    if (whole) for await (const chunk of response) answer.text += chunk;
    return answer;
  }

  #connection() {
    return { ca: this.#nginx.ca, localAddress: this.#address, family: 4 };
  }
}

/** A handshake that was refused. */
export class Refused extends Error {
  constructor(status, headers, text) {
    super(`the handshake was answered ${status}: ${text}`);
    Object.assign(this, { status, headers, text });
  }
}

/** A WebSocket that keeps its frames until they are asked for. */
class Socket {
  #socket;
  #frames = [];
  /** @type {(() => void) | undefined} */
  #wake;
  /** @type {Error | undefined} */
  #ended;
  /** Settled with the close code. */
  closed;

  /** @param {WebSocket} socket */
  constructor(socket) {
    this.#socket = socket;
    socket.on('message', (data) => {
      this.#frames.push(JSON.parse(String(data)));
      this.#wake?.();
    });
    socket.on('unexpected-response', async (_, response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      this.#end(new Refused(response.statusCode, response.headers, text));
    });
    socket.on('error', (error) => this.#end(error));
    this.closed = new Promise((resolve) => {
      socket.on('close', (code) => {
        this.#end(new Error(`the socket was closed: ${code}`));
        resolve(code);
      });
    });
  }

  get open() {
    return this.#ended === undefined;
  }

  /** @param {Record<string, unknown>} command */
  send(command) {
    this.#socket.send(JSON.stringify(command));
  }

  /** The first frame that fits; those before it are let go. @param {(frame: Record<string, any>) => boolean} fits */
  async frame(fits) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      while (this.#frames.length > 0) {
        const frame = this.#frames.shift();
        if (fits(frame)) return frame;
      }
      if (this.#ended) throw this.#ended;
      const timer = setTimeout(() => this.#wake?.(), deadline - Date.now());
      await new Promise((resolve) => (this.#wake = resolve));
      clearTimeout(timer);
      if (Date.now() >= deadline) throw new Error('the frame did not come');
    }
  }

  async close() {
    this.#socket.close();
    await this.closed;
  }

  #end(error) {
    this.#ended ??= error;
    this.#wake?.();
  }
}
