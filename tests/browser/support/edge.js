import { randomBytes } from 'node:crypto';
import { Nginx } from './nginx.js';
import { Redis } from './redis.js';
import { Server } from './server.js';

/** Two hubs and a dispatcher over Redis, behind nginx with TLS. */
export class Edge {
  /** @param {Record<string, string>} [env] further variables of nginx's render.sh */
  static async start(env = {}) {
    const edge = new Edge();
    try {
      edge.redis = await Redis.start();
      const settings = {
        CARILLON_AUTH__SECRET: randomBytes(32).toString('hex'),
        CARILLON_AUTH__PUBLIC_TOPICS: '*',
        CARILLON_REDIS__KIND: 'servers',
        CARILLON_REDIS__URLS: edge.redis.url,
        CARILLON_SERVER__TRUSTED_PROXIES: '127.0.0.1',
        CARILLON_HUB__MAX_CONNECTIONS_PER_ADDRESS: '50',
        CARILLON_HUB__LAME_DUCK: '100ms',
        CARILLON_HUB__DRAIN_WINDOW: '1s',
      };
      const start = (command) => Server.start({ command: [command], env: settings });
      // All are waited for, so that none is left over where another one fails.
      const starts = await Promise.allSettled(['dispatcher', 'hub', 'hub'].map(start));
      [edge.dispatcher, ...edge.hubs] = starts.map(({ value }) => value);
      const failed = starts.find(({ reason }) => reason);
      if (failed) throw failed.reason;
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

  /** By one hub, or where that one is dead, by the other. @param {Record<string, unknown>} body */
  async publish(body) {
    const [first, second] = this.hubs;
    await first.publish(body).catch(() => second.publish(body));
  }

  async stop() {
    await this.nginx?.stop();
    await Promise.all([this.dispatcher, ...(this.hubs ?? [])].map((server) => server?.stop()));
    await this.redis?.stop();
  }
}
