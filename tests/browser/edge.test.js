// What the edge of a cluster promises, seen through a real nginx with TLS by clients that are no browser.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { Edge } from './support/edge.js';
import { EdgeClient, Refused } from './support/edge_client.js';
import { Nginx } from './support/nginx.js';

/** Sockets on old workers may live for so long. */
const SHUTDOWN = '3s';

let edge;

before(async () => {
  edge = await Edge.start({ CARILLON_NGINX_SHUTDOWN: SHUTDOWN });
});

after(async () => {
  await edge?.stop();
});

/** Every test comes from an address of its own, so that no limit counts what another one did. */
function from(address, nginx = edge.nginx) {
  return new EdgeClient(nginx, address);
}

const bearer = (token) => ({ authorization: `Bearer ${token}` });
const isMessage = (data) => (frame) => frame.type === 'message' && frame.data === data;

/** A socket on every hub. */
async function socketsOnAll(client, token) {
  const byNode = new Map();
  const deadline = Date.now() + 10_000;
  while (byNode.size < edge.hubs.length) {
    assert.ok(Date.now() < deadline, 'all sockets went to one hub');
    const socket = await client.socket(token);
    if (byNode.has(socket.node)) await socket.close();
    else byNode.set(socket.node, socket);
    if (byNode.size < edge.hubs.length) await pause(20);
  }
  return [...byNode.values()];
}

test('sockets spread over the hubs, and each hears what comes by any of them', async () => {
  const sockets = await socketsOnAll(from('127.0.1.1'), await edge.token('both'));
  for (const path of ['/ws', '/api/v1/websocket/connect']) {
    sockets.push(await from('127.0.1.1').socket(await edge.token('both'), { path }));
  }
  for (const socket of sockets) socket.send({ type: 'subscribe', topic: 'weather' });
  for (const socket of sockets) await socket.frame(({ type }) => type === 'subscribed');
  for (const hub of edge.hubs) {
    const data = `rain from ${hub.port}`;
    await hub.publish({ to: { topic: 'weather' }, data });
    for (const socket of sockets) await socket.frame(isMessage(data));
  }
  for (const socket of sockets) await socket.close();
});

test('an event stream comes as it is written, and a long poll waits', async () => {
  const client = from('127.0.2.1');
  const token = await edge.token('streaming');
  const stream = await client.request(`/api/v1/sse?token=${token}`, { whole: false });
  assert.equal(stream.status, 200);
  const events = stream.stream[Symbol.asyncIterator]();
  let read = '';
  const reads = async (text) => {
    while (!read.includes(text)) {
      const { value, done } = await events.next();
      assert.ok(!done, 'the stream ended');
      read += value;
    }
  };
  await reads('"welcome"');

  // A poll that begins where another one ended waits for what comes, at whichever hub each of them is.
  const poll = async (positions, wait) => {
    const query = new URLSearchParams({ positions: JSON.stringify(positions), wait: String(wait) });
    const answer = await client.request(`/api/v1/poll?${query}`, { headers: bearer(token) });
    assert.equal(answer.status, 200, answer.text);
    return JSON.parse(answer.text);
  };
  const { positions } = await poll({}, 0);
  const waiting = poll(positions, 25);
  await edge.publish({ to: { user: 'streaming' }, data: 'for both' });
  await reads('"for both"');
  const { frames, positions: next } = await waiting;
  assert.deepEqual(frames.map(({ data }) => data), ['for both']);
  await edge.publish({ to: { user: 'streaming' }, data: 'between two polls' });
  assert.deepEqual((await poll(next, 25)).frames.map(({ data }) => data), ['between two polls']);
  assert.deepEqual((await poll(next, 0)).frames.map(({ data }) => data), ['between two polls']);

  // Positions of very many topics make a long request line.
  const topics = JSON.stringify(Array.from({ length: 100 }, (_, n) => `${n}-${'x'.repeat(130)}`));
  const long = await client.request(`/api/v1/poll?wait=0&topics=${encodeURIComponent(topics)}`, { headers: bearer(token) });
  assert.equal(long.status, 200, long.text);

  stream.stream.destroy();
});

test('the API and the page come by HTTP/2, TLS is 1.3, and plain HTTP gets no token', async () => {
  const session = connectHttp2(edge.nginx.url, { ca: edge.nginx.ca });
  try {
    const get = async (path, headers = {}) => {
      const request = session.request({ ':path': path, ...headers }).setEncoding('utf8');
      const [head] = await once(request, 'response');
      let text = '';
      for await (const chunk of request) text += chunk;
      return { head, text };
    };
    const page = await get('/');
    assert.equal(page.head[':status'], 200);
    assert.match(page.text, /Carillon/);
    assert.equal(page.head['strict-transport-security'], 'max-age=31536000');
    const count = await get('/api/v1/notifications/unread-count', bearer(await edge.token('h2')));
    assert.equal(count.head[':status'], 200, count.text);
    const stats = await get('/api/v1/websocket/stats', bearer(await edge.token('h2')));
    assert.equal(stats.head[':status'], 200, stats.text);
    const closed = await get('/metrics');
    assert.equal(closed.head[':status'], 404);
    assert.equal(closed.head['strict-transport-security'], 'max-age=31536000');
  } finally {
    session.close();
  }

  const { port, plainPort, ca } = edge.nginx;
  const old = connectTls({ port, host: 'localhost', ca, maxVersion: 'TLSv1.2' });
  const [refusal] = await once(old, 'error');
  assert.match(String(refusal), /version/);

  const plain = `http://127.0.0.1:${plainPort}`;
  const moved = await fetch(`${plain}/`, { redirect: 'manual' });
  assert.equal(moved.status, 301);
  assert.equal((await fetch(`${plain}/api/v1/notifications`)).status, 403);
});

test('what belongs inside is not there', async () => {
  const client = from('127.0.3.1');
  // With every right there is: it is the edge that has nothing there.
  const headers = bearer(await edge.token('insider', ['--scope', 'publish control metrics platform:admin']));
  const body = JSON.stringify({ to: { everyone: true }, data: 1 });
  for (const path of ['/api/v1/publish', '/api/v1/publish/batch', '/api/v1/publish/stream', '/api/v1/control/disconnect']) {
    const answer = await client.request(path, { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body });
    assert.equal(answer.status, 404, path);
  }
  for (const path of ['/metrics', '/live', '/ready', '//ready', '/%72eady', '/x/../ready', '/api/v1/control/sessions?user=u']) {
    const answer = await client.request(path, { headers });
    assert.equal(answer.status, 404, path);
    assert.equal(answer.headers['content-type'], 'application/problem+json');
    assert.equal(JSON.parse(answer.text).code, 'not_found');
  }
  const health = await client.request('/api/v1/health');
  assert.equal(health.status, 200, health.text);
});

test('a body that is too large is refused with a problem', async () => {
  const headers = { ...bearer(await edge.token('large')), 'content-type': 'application/json' };
  const answer = await from('127.0.3.2').request('/api/v1/notifications', { method: 'POST', headers, body: 'x'.repeat(3 << 20) });
  assert.equal(answer.status, 413);
  assert.equal(JSON.parse(answer.text).code, 'body_too_large');
});

test('a claimed address reaches neither the limits of a hub nor those of nginx', async () => {
  const token = await edge.token('forger');
  const claims = (n) => ({ 'x-forwarded-for': `198.51.100.${n}`, forwarded: `for=198.51.100.${n}`, 'x-real-ip': `198.51.100.${n}` });
  const sockets = [];
  let refusal;
  for (let n = 0; n < 120 && !refusal; n += 1) {
    await from('127.0.4.1')
      .socket(token, { headers: claims(n) })
      .then((socket) => sockets.push(socket), (error) => (refusal = error));
  }
  assert.ok(refusal instanceof Refused, String(refusal));
  assert.equal(refusal.status, 429);
  assert.equal(JSON.parse(refusal.text).code, 'address_full');
  assert.ok(Number(refusal.headers['retry-after']) > 0);
  // Each hub allows an address fifty, so it is the address that is full, for another user too, and another one is not.
  assert.equal(sockets.length, 100);
  await assert.rejects(from('127.0.4.1').socket(await edge.token('neighbour')), Refused);
  const other = await from('127.0.4.2').socket(await edge.token('neighbour'));
  for (const socket of [...sockets, other]) await socket.close();
});

test('an address has its limits: connections, handshakes, requests', async () => {
  const strict = await Nginx.start({
    hubs: edge.hubs,
    dispatchers: [edge.dispatcher],
    env: {
      CARILLON_NGINX_CONNECTIONS: '8',
      CARILLON_NGINX_HANDSHAKES: '2',
      CARILLON_NGINX_REQUESTS: '2',
      CARILLON_NGINX_UNLIMITED: '127.0.5.100/31',
    },
  });
  const isLimit = ({ status, headers, text }) => {
    assert.equal(status, 429, text);
    assert.ok([1, 2, 3, 4].includes(Number(headers['retry-after'])), headers['retry-after']);
    assert.equal(headers['content-type'], 'application/problem+json');
    assert.equal(JSON.parse(text).code, 'address_limited');
  };
  try {
    const token = await edge.token('busy');
    const sockets = [];
    const refusal = async (client, most) => {
      for (let n = 0; n < most; n += 1) {
        const answer = await client.socket(token).then((socket) => sockets.push(socket), (error) => error);
        if (answer instanceof Error) return answer;
      }
      return undefined;
    };
    // Connections: 8 at once, well within the burst of handshakes (10).
    isLimit(await refusal(from('127.0.5.1', strict), 9));
    assert.equal(sockets.length, 8);
    // Handshakes: refused ones count as well.
    const knocking = from('127.0.5.2', strict);
    const answers = [];
    for (let n = 0; n < 20; n += 1) answers.push(await knocking.socket('nobody').catch((error) => error));
    assert.equal(answers[0].status, 401);
    isLimit(answers.at(-1));
    // Requests.
    const asking = from('127.0.5.3', strict);
    const asked = [];
    for (let n = 0; n < 30; n += 1) asked.push(await asking.request('/api/v1/health'));
    assert.equal(asked[0].status, 200);
    isLimit(asked.find(({ status }) => status !== 200));
    // Nobody else is held up, and whom the operator listed is not counted.
    assert.equal((await from('127.0.5.4', strict).request('/api/v1/health')).status, 200);
    assert.equal(await refusal(from('127.0.5.100', strict), 20), undefined);
    for (const socket of sockets) await socket.close();
  } finally {
    await strict.stop();
  }
});

test('a balancer that is named says who the client is', async () => {
  const behind = await Nginx.start({
    hubs: edge.hubs,
    dispatchers: [edge.dispatcher],
    env: { CARILLON_NGINX_BALANCERS: '127.0.6.1', CARILLON_NGINX_CONNECTIONS: '2' },
  });
  try {
    const token = await edge.token('balanced');
    const sockets = [];
    const open = async (address, claimed) => {
      sockets.push(await from(address, behind).socket(token, { headers: { 'x-forwarded-for': claimed } }));
    };
    for (const n of [1, 2, 3, 4]) await open('127.0.6.1', `203.0.113.${n}`);
    // What a client wrote before the balancer's own entry is not believed.
    await open('127.0.6.1', '203.0.113.77, 203.0.113.1');
    await assert.rejects(open('127.0.6.1', '203.0.113.78, 203.0.113.1'), Refused);
    // Who is no balancer is not believed at all.
    for (const n of [5, 6]) await open('127.0.6.2', `203.0.113.${n}`);
    await assert.rejects(open('127.0.6.2', '203.0.113.9'), Refused);
    for (const socket of sockets) await socket.close();
  } finally {
    await behind.stop();
  }
});

test('a reload cuts no request that has begun and refuses none, and ends sockets only with the old workers', async () => {
  const client = from('127.0.7.1');
  const token = await edge.token('steady');
  const [socket] = await socketsOnAll(client, token);
  // An end user has a limit of so many requests a minute.
  const headers = bearer(await edge.token('asking', ['--scope', 'service']));
  let asking = true;
  let asked = 0;
  // An address has a limit of so many requests a second.
  const requests = Array.from({ length: 4 }, async (_, number) => {
    const asker = from(`127.0.7.${number + 2}`);
    while (asking) {
      const { status, text } = await asker.request('/api/v1/notifications/unread-count', { headers });
      assert.equal(status, 200, text);
      asked += 1;
    }
  });
  const feed = await client.request('/api/v1/inbox/changes', { headers: bearer(token) });
  const { cursor } = JSON.parse(feed.text);
  const waiting = client.request(`/api/v1/inbox/changes?wait=2&after=${encodeURIComponent(cursor)}`, { headers: bearer(token) });

  await edge.nginx.reload();
  assert.ok(socket.open, 'the socket did not survive the reload');
  await edge.publish({ to: { user: 'steady' }, data: 'after the reload' });
  await socket.frame(isMessage('after the reload'));
  assert.equal((await waiting).status, 200, 'a poll that waited was cut');
  socket.send({ type: 'ping' });
  const { positions } = await socket.frame(({ type }) => type === 'pong');

  // Then the time is over, for sockets alone.
  assert.equal(await socket.closed, 1006);
  await edge.nginx.settled();
  await edge.publish({ to: { user: 'steady' }, data: 'while it was away' });
  const again = await client.socket(token);
  again.send({ type: 'resume', positions });
  await again.frame(isMessage('while it was away'));
  await again.close();
  asking = false;
  await Promise.all(requests);
  assert.ok(asked > 20, `${asked} requests`);
});

test('a hub that drains, dies and comes back: handshakes always find one that takes them', async () => {
  const client = from('127.0.8.1');
  const token = await edge.token('wanderer');
  const [, hub] = edge.hubs;
  const opens = async () => {
    const began = Date.now();
    const socket = await client.socket(token);
    const took = Date.now() - began;
    assert.ok(took < 2_000, `a handshake took ${took} ms`);
    await socket.close();
    return socket.node;
  };

  // Draining: new handshakes are answered 503 by it, which nobody gets to see.
  let drained = false;
  const drain = hub.drain().then(() => (drained = true));
  while (!drained) await opens();
  await drain;
  await hub.restart();

  const sockets = await socketsOnAll(client, token);
  await hub.kill();
  const nodes = new Set();
  for (let n = 0; n < 20; n += 1) nodes.add(await opens());
  assert.equal(nodes.size, 1, 'handshakes go to the one that lives');
  for (let n = 0; n < 20; n += 1) {
    const answer = await client.request('/api/v1/websocket/stats', { headers: bearer(token) });
    assert.equal(answer.status, 200, answer.text);
  }
  const [cut] = sockets.filter(({ node }) => !nodes.has(node));
  assert.equal(await cut.closed, 1006);

  await hub.restart();
  for (const socket of [...sockets, ...(await socketsOnAll(client, token))]) if (socket.open) await socket.close();
});

test('after each hub was restarted in turn, all sockets come in at once', async () => {
  const client = from('127.0.10.1');
  const tokens = await Promise.all(Array.from({ length: 40 }, (_, n) => edge.token(`returning-${n}`)));
  let sockets = await Promise.all(tokens.map((token) => client.socket(token)));
  for (const hub of edge.hubs) {
    await hub.drain();
    await hub.restart();
    for (const socket of sockets.filter(({ open }) => !open)) assert.equal(await socket.closed, 1012);
    const began = Date.now();
    sockets = await Promise.all(sockets.map((socket, n) => (socket.open ? socket : client.socket(tokens[n]))));
    const took = Date.now() - began;
    assert.ok(took < 2_000, `${took} ms until all were back`);
  }
  for (const socket of sockets) await socket.close();
});

test('no log holds a token or a query', async () => {
  const token = await edge.token('secretive');
  const client = from('127.0.9.1');
  await (await client.socket(token)).close();
  for (const path of ['/api/v1/sse', '/api/v1/poll', '/metrics', '/api/v1/notifications', '/api/v1/nothing']) {
    const { stream } = await client.request(`${path}?token=${token}&wait=0`, { whole: false });
    stream.destroy();
  }
  const logs = await edge.nginx.logs();
  const texts = { ...logs, ...Object.fromEntries([edge.dispatcher, ...edge.hubs].map((server, n) => [`server ${n}`, server.output])) };
  assert.match(logs['access.log'], /"path":"\/api\/v1\/ws"/);
  for (const [name, text] of Object.entries(texts)) {
    // What every token here begins with, and what stands before it in a query.
    assert.ok(!text.includes(token.slice(0, 20)), `${name} holds a token`);
    assert.ok(!text.includes('token='), `${name} holds a query`);
  }
});
