import { createServer } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';
import { CarillonClient } from '../src/index.js';

/** Time that stands still until a test moves it. */
export class FakeClock {
  #now = 1_000_000;
  #timers = new Map();
  #next = 1;
  #watchers = new Set();

  now = () => this.#now;

  setTimeout = (run, ms) => {
    const id = this.#next++;
    this.#timers.set(id, { run, at: this.#now + ms, ms });
    for (const look of [...this.#watchers]) look();
    return id;
  };

  clearTimeout = (id) => void this.#timers.delete(id);

  /** Resolves as soon as a timer of this length is waiting. */
  armed(ms) {
    return new Promise((resolve) => {
      const look = () => {
        if (![...this.#timers.values()].some((timer) => timer.ms === ms)) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** Waits for a timer of this length, then lets that time pass. */
  async pass(ms) {
    await this.armed(ms);
    this.advance(ms);
  }

  advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = Math.max(this.#now, due[1].at);
      due[1].run();
    }
    this.#now = end;
  }
}

/** Things that happen, waited for in order. */
class Inbox {
  #items = [];
  #waiting = [];

  push(item) {
    const index = this.#waiting.findIndex((waiting) => waiting.matches(item));
    if (index < 0) this.#items.push(item);
    else this.#waiting.splice(index, 1)[0].resolve(item);
  }

  take(matches = () => true) {
    const index = this.#items.findIndex(matches);
    if (index >= 0) return Promise.resolve(this.#items.splice(index, 1)[0]);
    return new Promise((resolve) => this.#waiting.push({ matches, resolve }));
  }

  get left() {
    return [...this.#items];
  }
}

/** One socket at the fake hub. */
class Session {
  #commands = new Inbox();
  answersPings = true;

  constructor(socket, protocols) {
    this.socket = socket;
    this.protocols = protocols;
    socket.on('message', (data) => {
      const command = JSON.parse(String(data));
      if (command.type === 'ping' && this.answersPings) this.send({ type: 'pong', positions: {} });
      this.#commands.push(command);
    });
  }

  send(frame) {
    this.socket.send(JSON.stringify(frame));
  }

  /** The next command of this type. */
  got(type) {
    return this.#commands.take((command) => command.type === type);
  }

  get unread() {
    return this.#commands.left;
  }

  notify(id, position, more = {}) {
    this.send({ type: 'notification', id, title: `title ${id}`, content: 'c', kind: 'info', priority: 'normal', topic: 'user', position, ...more });
  }
}

/** One event stream at the fake hub. */
class Stream {
  constructor(request, url, response) {
    this.response = response;
    this.token = request.headers.authorization?.slice('Bearer '.length);
    this.topics = JSON.parse(url.searchParams.get('topics') ?? '[]');
    this.positions = JSON.parse(url.searchParams.get('positions') ?? '{}');
    this.closed = new Promise((resolve) => response.on('close', resolve));
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
  }

  /** @param {object | undefined} frame @param {object} [positions] the whole vector behind it */
  send(frame, positions) {
    const id = positions ? `id: ${JSON.stringify(positions)}\n` : '';
    this.response.write(`${id}${frame ? `data: ${JSON.stringify(frame)}\n` : ''}\n`);
  }

  welcome(positions, more = {}) {
    this.send({ type: 'welcome', session: 's1', heartbeat_ms: 25_000, positions, ...more }, positions);
  }

  notify(id, position) {
    this.send({ type: 'notification', id, title: id, content: 'c', topic: 'user', position }, { user: position });
  }

  close(code, reason, retryAfterMs) {
    this.send({ type: 'close', code, reason, retry_after_ms: retryAfterMs });
    this.response.end();
  }

  cut() {
    this.response.destroy();
  }
}

/** One long poll at the fake hub. */
class Poll {
  constructor(request, url, response) {
    this.response = response;
    this.token = request.headers.authorization?.slice('Bearer '.length);
    this.topics = JSON.parse(url.searchParams.get('topics') ?? '[]');
    this.positions = JSON.parse(url.searchParams.get('positions') ?? '{}');
    this.wait = url.searchParams.get('wait');
    this.closed = new Promise((resolve) => response.on('close', resolve));
  }

  answer(frames, positions, more = false) {
    this.refuse(200, { frames, positions, more });
  }

  refuse(status, body, headers = {}) {
    this.response.writeHead(status, { 'content-type': 'application/json', ...headers });
    this.response.end(JSON.stringify(body));
  }
}

/** A hub and its change feed, scripted. */
export class FakeHub {
  #sessions = new Inbox();
  #requests = new Inbox();
  #held = new Set();
  #released = new Inbox();
  #streams = new Inbox();
  #polls = new Inbox();
  /** `absent`, `accept`, or a function that is given the response instead. */
  sse = 'absent';
  /** `absent`, or `accept`: the test answers. */
  polling = 'absent';
  /** `accept`, `refuse`, or a function that is given the session instead of the welcome. */
  sockets = 'accept';
  /** False: HTTP connections are cut. */
  http = true;
  /** Tokens that are accepted; null: any. */
  tokens = null;
  positions = { user: 'e:0' };
  heartbeatMs = 25_000;
  changes = [];
  firstCursor = 0;
  unreadCount = 0;
  pageSize = 2;

  async start() {
    this.server = createServer((request, response) => this.#serve(request, response));
    this.wss = new WebSocketServer({ noServer: true, handleProtocols: () => 'carillon.v1' });
    this.server.on('upgrade', (request, socket, head) => {
      if (this.sockets === 'refuse') return socket.destroy();
      this.wss.handleUpgrade(request, socket, head, (ws) => this.#open(ws, request));
    });
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  #open(ws, request) {
    const session = new Session(ws, request.headers['sec-websocket-protocol'].split(/,\s*/));
    if (typeof this.sockets === 'function') this.sockets(session);
    else session.send({ type: 'welcome', session: 's', node: 'n', heartbeat_ms: this.heartbeatMs, positions: this.positions });
    this.#sessions.push(session);
  }

  session() {
    return this.#sessions.take();
  }

  /** The next event stream. */
  stream() {
    return this.#streams.take();
  }

  /** The next long poll. */
  poll() {
    return this.#polls.take();
  }

  /** The next request whose path begins so. */
  request(path) {
    return this.#requests.take((request) => request.path.startsWith(path));
  }

  /** Adds to the feed, and answers the polls that wait. */
  feed(...changes) {
    this.changes.push(...changes);
    for (const answer of [...this.#held]) answer();
  }

  #serve(request, response) {
    if (!this.http) return request.socket.destroy();
    const url = new URL(request.url, this.url);
    const token = request.headers.authorization?.slice('Bearer '.length);
    let body = '';
    request.on('data', (data) => (body += data));
    request.on('end', () => {
      this.#requests.push({ method: request.method, path: url.pathname + url.search, token, body: body && JSON.parse(body) });
      const answer = (status, value, headers = {}) => {
        response.writeHead(status, { 'content-type': 'application/json', ...headers });
        response.end(JSON.stringify(value));
      };
      if (this.tokens && !this.tokens.includes(token)) return answer(401, { code: 'token_expired', detail: 'expired' });
      if (url.pathname === '/api/v1/sse' && typeof this.sse === 'function') return this.sse(response);
      if (url.pathname === '/api/v1/sse' && this.sse === 'accept') return this.#streams.push(new Stream(request, url, response));
      if (url.pathname === '/api/v1/poll' && this.polling === 'accept') return this.#polls.push(new Poll(request, url, response));
      if (url.pathname === '/api/v1/notifications/unread-count') return answer(200, { unread_count: this.unreadCount });
      if (url.pathname !== '/api/v1/inbox/changes') return answer(200, { success: true });
      this.#answerFeed(url, answer, response);
    });
  }

  #answerFeed(url, answer, response) {
    const after = url.searchParams.get('after');
    if (after === null) return answer(200, { changes: [], cursor: String(this.changes.length), more: false });
    if (Number(after) < this.firstCursor) return answer(410, { code: 'resync', detail: 'too old' });
    const page = () => {
      const end = Math.min(Number(after) + this.pageSize, this.changes.length);
      return { changes: this.changes.slice(Number(after), end), cursor: String(end), more: end < this.changes.length };
    };
    if (page().changes.length > 0 || !url.searchParams.has('wait')) return answer(200, page());
    const release = () => {
      this.#held.delete(release);
      answer(200, page());
    };
    this.#held.add(release);
    response.on('close', () => {
      this.#held.delete(release);
      this.#released.push(after);
    });
  }

  /** Resolves when a poll that was held has ended, by an answer or because its client gave it up. */
  released() {
    return this.#released.take();
  }

  async stop() {
    for (const ws of this.wss.clients) ws.terminate();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** A client at a hub with its own clock, and all that it said. */
export class Probe {
  log = [];
  #events = new Inbox();

  constructor(hub, options = {}) {
    this.clock = new FakeClock();
    this.client = new CarillonClient({
      token: 'fixed',
      url: hub.url,
      WebSocket,
      clock: this.clock,
      random: () => 1,
      wakeUps: {},
      timing: { openTimeoutMs: 8001 }, // A length that no back-off has.
      ...options,
    });
    for (const event of ['notification', 'message', 'unread', 'changed', 'state', 'resync', 'subscribed', 'error']) {
      this.client.on(event, (value) => {
        this.log.push({ event, value });
        this.#events.push({ event, value });
      });
    }
    this.client.connect().catch(() => undefined); // The error event says the same.
  }

  /** The next event of this name that fits. */
  async next(event, fits = () => true) {
    return (await this.#events.take((item) => item.event === event && fits(item.value))).value;
  }

  state(name) {
    return this.next('state', ({ state }) => state === name);
  }

  /** The socket was lost or not had, and the next try is set. */
  down() {
    return this.next('state', ({ state, retryInMs }) => state === 'connecting' && retryInMs !== undefined);
  }

  /** All of this event so far. */
  all(event) {
    return this.log.filter((item) => item.event === event).map((item) => item.value);
  }

  get ids() {
    return this.all('notification').map(({ id }) => id);
  }
}

/** @param {(hub: FakeHub, probe: (options?: object) => Probe) => Promise<void>} run */
export function withHub(run) {
  return async () => {
    const hub = await new FakeHub().start();
    const probes = [];
    const probe = (options) => {
      const made = new Probe(hub, options);
      probes.push(made);
      return made;
    };
    try {
      await run(hub, probe);
    } finally {
      for (const made of probes) made.client.close();
      await hub.stop();
    }
  };
}

export function upsert(id) {
  const notification = { id, title: `title ${id}`, message: 'm', type: 'info', priority: 'normal', is_read: false, created_at: '2026-02-20T10:30:00Z' };
  return { op: 'upsert', id, notification };
}

export function jwt(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'HS256' })}.${part(claims)}.signature`;
}
