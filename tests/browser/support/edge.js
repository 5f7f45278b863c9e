import { randomBytes } from 'node:crypto';
import { Nginx } from './nginx.js';
import { Server } from './server.js';

/** Hubs and a dispatcher behind nginx with TLS. */
export class Edge {
  /**
   * @param {Record<string, string>} [env] further variables of nginx's render.sh
   * @param {{ hubs?: number }} [options]
   */
  static async start(env = {}, { hubs = 2 } = {}) {
    const edge = new Edge();
    const settings = {
      CARILLON_AUTH__SECRET: randomBytes(32).toString('hex'),
      CARILLON_SERVER__TRUSTED_PROXIES: '127.0.0.1',
      CARILLON_HUB__MAX_CONNECTIONS_PER_ADDRESS: '50',
      CARILLON_HUB__LAME_DUCK: '100ms',
      CARILLON_HUB__DRAIN_WINDOW: '1s',
    };
    try {
      // Two standalone servers: each is a hub, and the first is the dispatcher too.
      edge.hubs = await Promise.all(Array.from({ length: hubs }, () => Server.start({ env: settings })));
      edge.dispatcher = edge.hubs[0];
      edge.nginx = await Nginx.start({ hubs: edge.hubs, dispatchers: [edge.dispatcher], env });
    } catch (error) {
      await edge.stop();
      throw error;
    }
    return edge;
  }

  /** @param {string} user @param {string[]} [more] */
  async token(user, more) {
    return await this.dispatcher.token(user, more);
  }

  /** To whoever is connected to whichever hub. @param {Record<string, unknown>} body */
  async publish(body) {
    for (const hub of this.hubs) await hub.publish(body);
  }

  async stop() {
    await this.nginx?.stop();
    await Promise.all((this.hubs ?? []).map((hub) => hub.stop()));
  }
}
