import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePort } from './server.js';

const run = promisify(execFile);
const RENDER = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../../nginx/render.sh');
const CHANGE_MS = 15_000;

/** The repository's nginx configuration, rendered for ports of its own and with a certificate made for it. */
export class Nginx {
  #child;
  #folder;
  #output = '';

  /**
   * @param {{ hubs: import('./server.js').Server[], dispatchers: import('./server.js').Server[], env?: Record<string, string> }} options
   * `env`: further variables of render.sh
   */
  static async start({ hubs, dispatchers, env = {} }) {
    const nginx = new Nginx();
    nginx.#folder = await mkdtemp(path.join(tmpdir(), 'carillon-nginx-'));
    // Its workers are another user when this one is root.
    await chmod(nginx.#folder, 0o755);
    await mkdir(nginx.#path('log'));
    nginx.port = await freePort();
    nginx.plainPort = await freePort();
    await nginx.#certificate();
    const addresses = (servers) => servers.map(({ port }) => `127.0.0.1:${port}`).join(' ');
    await run(RENDER, [nginx.#path('conf')], {
      env: {
        ...process.env,
        CARILLON_HUBS: addresses(hubs),
        CARILLON_DISPATCHERS: addresses(dispatchers),
        CARILLON_NGINX_LISTEN: `127.0.0.1:${nginx.port}`,
        CARILLON_NGINX_PLAIN_LISTEN: `127.0.0.1:${nginx.plainPort}`,
        CARILLON_NGINX_CERTIFICATE: nginx.#path('cert.pem'),
        CARILLON_NGINX_KEY: nginx.#path('key.pem'),
        CARILLON_NGINX_LOG: nginx.#path('log'),
        CARILLON_NGINX_RUN: nginx.#folder,
        CARILLON_NGINX_WORKERS: '2',
        ...env,
      },
    });
    nginx.#child = spawn('nginx', [...nginx.#arguments(), '-g', 'daemon off;'], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [nginx.#child.stdout, nginx.#child.stderr]) {
      stream.on('data', (data) => (nginx.#output += data));
    }
    await nginx.#until('nginx did not start', async () => (await nginx.#workers()).length === 2);
    return nginx;
  }

  get url() {
    return `https://localhost:${this.port}`;
  }

  /** The rendered file as a function changes it; holds from the next `reload` on. */
  async change(file, edit) {
    const name = this.#path(`conf/${file}`);
    const before = await readFile(name, 'utf8');
    const after = edit(before);
    if (after === before) throw new Error(`nothing to change in ${file}`);
    await writeFile(name, after);
  }

  /** Answers when new workers have taken over; those of the old configuration may still have sockets. */
  async reload() {
    await run('nginx', [...this.#arguments(), '-t']);
    const old = new Set((await this.#workers()).map(({ pid }) => pid));
    this.#child.kill('SIGHUP');
    await this.#until('nginx did not reload', async () => {
      const workers = await this.#workers();
      const fresh = workers.filter(({ pid }) => !old.has(pid));
      return fresh.length === 2 && workers.every(({ pid, ending }) => ending || !old.has(pid));
    });
  }

  /** Answers when no worker of an old configuration is left. */
  async settled() {
    await this.#until('old workers did not end', async () => (await this.#workers()).length === 2);
  }

  /** What is in its logs, by file. */
  async logs() {
    const logs = { output: this.#output };
    for (const name of await readdir(this.#path('log'))) logs[name] = await readFile(this.#path(`log/${name}`), 'utf8');
    return logs;
  }

  async stop() {
    const child = this.#child;
    if (child?.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  #path(name) {
    return path.join(this.#folder, name);
  }

  #arguments() {
    return ['-p', this.#folder, '-e', this.#path('log/error.log'), '-c', this.#path('conf/nginx.conf')];
  }

  async #certificate() {
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
    const files = ['-keyout', this.#path('key.pem'), '-out', this.#path('cert.pem')];
    const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
    await run('openssl', ['req', ...kind, ...subject, ...files]);
    this.ca = await readFile(this.#path('cert.pem'));
  }

  /** Its workers as the system has them; one that only waits for its last connections says so in its title. */
  async #workers() {
    const { pid } = this.#child;
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    const workers = [];
    for (const worker of children.split(' ').filter(Boolean)) {
      const title = await readFile(`/proc/${worker}/cmdline`, 'utf8').catch(() => '');
      // Before its first step a worker has the master's title.
      if (title.includes('worker process')) workers.push({ pid: worker, ending: title.includes('shutting down') });
    }
    return workers;
  }

  async #until(problem, holds) {
    const deadline = Date.now() + CHANGE_MS;
    while (Date.now() < deadline) {
      if (this.#child.exitCode !== null) break;
      if (await holds()) return;
      await pause(20);
    }
    throw new Error(`${problem}:\n${JSON.stringify(await this.logs(), null, 2)}`);
  }
}
