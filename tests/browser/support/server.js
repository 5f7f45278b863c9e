import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const BINARY = process.env.CARILLON_BIN ?? path.resolve(HERE, '../../../target/debug/carillon');
const START_MS = 30_000;
const STOP_MS = 20_000;

/** A Carillon process with a data folder of its own; standalone, where `command` says nothing else. */
export class Server {
  #child;
  #dataDir;
  #command;
  #env;
  /** All that it wrote, of every start. */
  output = '';

  /**
   * @param {{ port?: number, command?: string[], env?: Record<string, string> }} [options] `port`: the public one, where it
   * has to be a certain one
   */
  static async start({ port, command = [], env = {} } = {}) {
    const server = new Server();
    server.port = port ?? (await freePort());
    server.internal = await freePort();
    server.#dataDir = await mkdtemp(path.join(tmpdir(), 'carillon-browser-'));
    server.#command = command;
    server.#env = { ...process.env, ...env };
    await server.restart();
    return server;
  }

  /** Starts it where it stood, on the same ports with the same data. */
  async restart() {
    this.#child = spawn(
      BINARY,
      [
        ...this.#command,
        ...['--listen', `127.0.0.1:${this.port}`, '--internal-listen', `127.0.0.1:${this.internal}`],
        ...['--grpc-listen', '127.0.0.1:0', '--data-dir', this.#dataDir],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env: this.#env },
    );
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.on('data', (data) => (this.output += data));
    }
    await this.#ready();
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async #ready() {
    let failure;
    this.#child.once('error', (error) => (failure = error));
    const deadline = Date.now() + START_MS;
    while (Date.now() < deadline) {
      if (failure) throw new Error(`${BINARY} could not be started`, { cause: failure });
      if (this.#child.exitCode !== null) break;
      const answer = await fetch(`http://127.0.0.1:${this.internal}/ready`).catch(() => undefined);
      if (answer?.status === 200) return;
      await pause(50);
    }
    await this.stop();
    throw new Error(`the server did not become ready:\n${this.output}`);
  }

  /**
   * @param {string} user
   * @param {string[]} [more] further arguments of `carillon token`
   */
  async token(user, more = []) {
    const { stdout } = await promisify(execFile)(BINARY, [
      ...['token', '--user', user, '--tenant', 'default', '--data-dir', this.#dataDir, '--ttl', '1h'],
      ...['--scope', 'notifications:write', ...more],
    ], { env: this.#env });
    return stdout.trim();
  }

  /**
   * Creates a notification, and answers its id.
   * @param {Record<string, unknown>} body
   */
  async send(body) {
    this.senderToken ??= await this.token('sender');
    const answer = await fetch(`${this.url}/api/v1/notifications`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${this.senderToken}` },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    if (answer.status !== 201) throw new Error(`creating answered ${answer.status}: ${text}`);
    return JSON.parse(text).id;
  }

  /**
   * Publishes to whoever is connected.
   * @param {Record<string, unknown>} body
   */
  async publish(body) {
    this.publisherToken ??= await this.token('publisher', ['--scope', 'publish']);
    const answer = await fetch(`http://127.0.0.1:${this.internal}/api/v1/publish`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${this.publisherToken}` },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    if (answer.status !== 200) throw new Error(`publishing answered ${answer.status}: ${text}`);
  }

  /** Without a word (SIGKILL); `restart` starts it again. */
  async kill() {
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }

  /** Begins an orderly stop; answers when the process has ended. */
  async drain() {
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await exited;
  }

  async stop() {
    const child = this.#child;
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await exited;
      clearTimeout(timer);
    }
    await rm(this.#dataDir, { recursive: true, force: true });
  }
}

/** A port that nobody listens on now. */
export async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}
