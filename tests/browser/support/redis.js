import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from './server.js';

const START_MS = 10_000;

/** A Redis of the test's own, which keeps nothing on a disk. */
export class Redis {
  #child;
  #folder;

  static async start() {
    const redis = new Redis();
    redis.port = await freePort();
    redis.#folder = await mkdtemp(path.join(tmpdir(), 'carillon-redis-'));
    const settings = { port: redis.port, bind: '127.0.0.1', dir: redis.#folder, save: '', appendonly: 'no' };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
    redis.#child = spawn('redis-server', args, { stdio: 'ignore' });
    const deadline = Date.now() + START_MS;
    while (!(await redis.#answers())) {
      if (Date.now() > deadline || redis.#child.exitCode !== null) {
        await redis.stop();
        throw new Error('redis-server did not start');
      }
      await pause(20);
    }
    return redis;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  async stop() {
    if (this.#child.exitCode === null) {
      const exited = once(this.#child, 'exit');
      this.#child.kill('SIGKILL');
      await exited;
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #answers() {
    const socket = connect(this.port, '127.0.0.1');
    try {
      socket.write('PING\r\n');
      const [answer] = await once(socket, 'data');
      return String(answer).startsWith('+PONG');
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  }
}
