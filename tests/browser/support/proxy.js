import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/**
 * A TCP proxy that knows of HTTP which connections ask to become WebSockets, and what else they ask for. WebSockets it
 * can cut and refuse, answers it can keep back, and requests it can refuse, as a company's proxy does.
 */
export class Proxy {
  #server;
  /** @type {Set<import('node:net').Socket>} */
  #all = new Set();
  /** @type {Set<import('node:net').Socket>} */
  #webSockets = new Set();
  /** @type {Map<import('node:net').Socket, string>} the path last asked for */
  #paths = new Map();
  refusing = false;
  /** Paths that begin so are asked for in vain. */
  refusedPath = undefined;
  /** Answers to paths that begin so do not come through before they are whole. */
  heldPath = undefined;
  refused = 0;

  /** @param {number} target */
  static async start(target) {
    const proxy = new Proxy();
    proxy.#server = createServer((socket) => proxy.#accept(socket, target)).listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    proxy.url = `http://127.0.0.1:${proxy.#server.address().port}`;
    return proxy;
  }

  get webSockets() {
    return this.#webSockets.size;
  }

  /** Ends every WebSocket without a word. */
  cut() {
    for (const socket of this.#webSockets) socket.destroy();
  }

  /** Ends every connection that last asked for a path that begins so. @param {string} path */
  cutPath(path) {
    for (const [socket, asked] of this.#paths) if (asked.startsWith(path)) socket.destroy();
  }

  #accept(socket, target) {
    this.#all.add(socket);
    let head = '';
    const read = (data) => {
      head += data.toString('latin1');
      if (!head.includes('\r\n\r\n')) return;
      socket.off('data', read);
      const asksForWebSocket = /^upgrade:\s*websocket/im.test(head);
      if (asksForWebSocket && this.refusing) {
        this.refused += 1;
        return socket.destroy();
      }
      if (asksForWebSocket) this.#webSockets.add(socket);
      const upstream = connect(target, '127.0.0.1');
      const forward = (text) => {
        const path = /^(?:GET|POST|PUT|DELETE) (\S+)/.exec(text)?.[1];
        if (path) this.#paths.set(socket, path);
        if (path && this.refusedPath && path.startsWith(this.refusedPath)) return socket.destroy();
        upstream.write(text, 'latin1');
      };
      forward(head);
      if (asksForWebSocket) {
        socket.pipe(upstream);
      } else {
        // The requests of this client are small: each comes in one piece, on a connection that is used again.
        socket.on('data', (more) => forward(more.toString('latin1')));
        socket.on('end', () => upstream.end());
      }
      upstream.on('data', (data) => {
        const path = this.#paths.get(socket);
        // An event stream is never whole, so it is kept back for good.
        if (!asksForWebSocket && this.heldPath && path?.startsWith(this.heldPath)) return;
        socket.write(data);
      });
      upstream.on('end', () => socket.end());
      upstream.on('error', () => socket.destroy());
      upstream.on('close', () => socket.destroy());
      socket.on('close', () => upstream.destroy());
    };
    socket.on('data', read);
    socket.on('error', () => undefined); // `close` follows.
    socket.on('close', () => {
      this.#all.delete(socket);
      this.#webSockets.delete(socket);
      this.#paths.delete(socket);
    });
  }

  async stop() {
    for (const socket of this.#all) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
