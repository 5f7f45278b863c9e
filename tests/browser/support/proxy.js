import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/**
 * A TCP proxy that knows one thing of HTTP: which connections ask to become WebSockets. Those it can cut and refuse,
 * while everything else passes, as a company's proxy does.
 */
export class Proxy {
  #server;
  /** @type {Set<import('node:net').Socket>} */
  #all = new Set();
  /** @type {Set<import('node:net').Socket>} */
  #webSockets = new Set();
  refusing = false;
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
      upstream.write(head, 'latin1');
      socket.pipe(upstream).pipe(socket);
      upstream.on('error', () => socket.destroy());
      upstream.on('close', () => socket.destroy());
      socket.on('close', () => upstream.destroy());
    };
    socket.on('data', read);
    socket.on('error', () => undefined); // `close` follows.
    socket.on('close', () => {
      this.#all.delete(socket);
      this.#webSockets.delete(socket);
    });
  }

  async stop() {
    for (const socket of this.#all) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
