import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventLines } from '../src/events.js';
import { jwt, upsert, withHub } from './support.js';

/** A hub that no socket reaches. */
const withoutSockets = (run) =>
  withHub(async (hub, probe) => {
    hub.sockets = 'refuse';
    hub.sse = 'accept';
    hub.polling = 'accept';
    await run(hub, async (options) => {
      const one = probe(options);
      await one.clock.pass(500);
      await one.clock.pass(1000);
      return one;
    });
  });

/** Down to long polling: event streams are not passed on. */
const withoutStreams = (run) =>
  withoutSockets(async (hub, probe) => {
    hub.sse = 'absent';
    await run(hub, probe);
  });

const via = (one, name) => one.next('state', (state) => state.via === name);

test('lines of an event stream, however they are cut', () => {
  const text = ': hello\r\nretry: 1000\n\nid: {"a":"1"}\ndata: {"x":\ndata:"ä"}\r\n\r\nid: 2\n\ndata\n\ndata: x\r\r';
  const expected = [
    { data: '{"x":\n"ä"}', id: '{"a":"1"}' },
    { data: undefined, id: '2' },
    { data: '', id: undefined },
  ];
  const bytes = new TextEncoder().encode(text);
  for (let size = 1; size <= bytes.length; size += 1) {
    const events = [];
    const lines = new EventLines((event) => events.push(event));
    for (let at = 0; at < bytes.length; at += size) lines.push(bytes.slice(at, at + size));
    assert.deepEqual(events.slice(0, 3), expected, `in pieces of ${size}`);
  }
});

test(
  'where sockets are refused frames come by an event stream',
  withoutSockets(async (hub, probe) => {
    const one = await probe({ positions: { user: 'e:5' } });
    one.client.subscribe('news');
    const stream = await hub.stream();
    assert.equal(stream.token, 'fixed');
    assert.deepEqual(stream.positions, { user: 'e:5' });
    stream.welcome({ user: 'e:5' });
    const state = await via(one, 'sse');
    assert.equal(state.state, 'live');
    stream.notify('n1', 'e:6');
    stream.send({ type: 'message', id: 'm1', data: { a: 1 }, topic: 'topic:news', position: 'e:1' }, { user: 'e:6', 'topic:news': 'e:1' });
    assert.equal((await one.next('notification')).source, 'live');
    await one.next('message');
    assert.deepEqual(one.client.snapshot().positions, { user: 'e:6', 'topic:news': 'e:1' });
    // An id without data moves positions, too.
    stream.send(undefined, { user: 'e:9', 'topic:news': 'e:1' });
    stream.notify('n2', 'e:10');
    await one.next('notification');
    assert.equal(one.client.snapshot().positions.user, 'e:10');
  }),
);

test(
  'a stream that is cut goes on from its last id, also in the middle of a replay',
  withoutSockets(async (hub, probe) => {
    const one = await probe({ positions: { user: 'e:1' } });
    const first = await hub.stream();
    first.welcome({ user: 'e:1' });
    first.notify('n2', 'e:2');
    await one.next('notification');
    first.cut();
    await one.clock.pass(500);
    const second = await hub.stream();
    assert.deepEqual(second.positions, { user: 'e:2' });
    // `welcome` says where the topic stands now; the id says how far this stream has come.
    second.send({ type: 'welcome', session: 's2', heartbeat_ms: 25_000, positions: { user: 'e:4' } }, { user: 'e:2' });
    second.notify('n3', 'e:3');
    await one.next('notification', ({ id }) => id === 'n3');
    second.cut();
    await one.clock.pass(1000);
    assert.deepEqual((await hub.stream()).positions, { user: 'e:3' });
    assert.deepEqual(one.ids, ['n2', 'n3']);
  }),
);

test(
  'back up to the socket, with nothing lost or doubled between the two',
  withoutSockets(async (hub, probe) => {
    const one = await probe();
    const stream = await hub.stream();
    stream.welcome({ user: 'e:0' });
    await via(one, 'sse');
    stream.notify('n1', 'e:1');
    await one.next('notification');
    hub.sockets = 'accept';
    hub.positions = { user: 'e:2' };
    await one.clock.pass(2000);
    const session = await hub.session();
    await via(one, 'websocket');
    await stream.closed;
    assert.deepEqual((await session.got('resume')).positions, { user: 'e:1' });
    session.notify('n1', 'e:1');
    session.notify('n2', 'e:2');
    session.send({ type: 'recovered', positions: { user: 'e:2' }, count: 1 });
    session.notify('n3', 'e:3');
    await one.next('notification', ({ id }) => id === 'n3');
    assert.deepEqual(one.ids, ['n1', 'n2', 'n3']);
    // And down again: the event stream goes on where the socket ended.
    hub.sockets = 'refuse';
    session.socket.terminate();
    assert.deepEqual((await hub.stream()).positions, { user: 'e:3' });
  }),
);

test(
  'a stream that something keeps back brings up long polling, and is taken when it comes through',
  withoutSockets(async (hub, probe) => {
    const asked = new Promise((resolve) => {
      hub.sse = (response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.flushHeaders();
        resolve();
      };
    });
    const one = await probe({ positions: { user: 'e:1' } });
    await asked;
    await one.clock.pass(8001);
    const first = await hub.poll();
    assert.deepEqual([first.wait, first.positions], ['0', { user: 'e:1' }]);
    first.answer([{ type: 'notification', id: 'n2', title: 't', topic: 'user', position: 'e:2' }], { user: 'e:2' });
    assert.equal((await via(one, 'poll')).state, 'polling');
    await one.next('notification');
    const waiting = await hub.poll();
    assert.deepEqual([waiting.wait, waiting.positions], ['25', { user: 'e:2' }]);
    hub.sse = 'accept';
    one.clock.advance(30_000);
    const stream = await hub.stream();
    assert.deepEqual(stream.positions, { user: 'e:2' });
    stream.welcome({ user: 'e:2' });
    await via(one, 'sse');
    await waiting.closed;
    stream.notify('n3', 'e:3');
    await one.next('notification', ({ id }) => id === 'n3');
    assert.deepEqual(one.ids, ['n2', 'n3']);
  }),
);

test(
  'streams that do not last bring up long polling',
  withoutSockets(async (hub, probe) => {
    const one = await probe();
    for (const delay of [500, 1000, undefined]) {
      const stream = await hub.stream();
      stream.welcome({ user: 'e:0' });
      await via(one, 'sse');
      stream.cut();
      if (delay) await one.clock.pass(delay);
    }
    (await hub.poll()).answer([], { user: 'e:0' });
    await via(one, 'poll');
  }),
);

test(
  'polls carry positions as a whole and go on at once while there is more',
  withoutStreams(async (hub, probe) => {
    const one = await probe();
    const first = await hub.poll();
    assert.deepEqual([first.wait, first.positions, first.token], ['0', {}, 'fixed']);
    first.answer([], { user: 'e:0', tenant: 'f:7' });
    const second = await hub.poll();
    assert.deepEqual([second.wait, second.positions], ['25', { user: 'e:0', tenant: 'f:7' }]);
    const frame = (n) => ({ type: 'notification', id: `n${n}`, title: 't', topic: 'user', position: `e:${n}` });
    second.answer([frame(1), frame(2)], { user: 'e:2', tenant: 'f:7' }, true);
    const third = await hub.poll();
    assert.deepEqual([third.wait, third.positions], ['0', { user: 'e:2', tenant: 'f:7' }]);
    third.answer([frame(2), frame(3)], { user: 'e:3', tenant: 'f:7' });
    const fourth = await hub.poll();
    assert.deepEqual(one.ids, ['n1', 'n2', 'n3']);

    // A topic is the next request's, and that is made at once.
    one.client.subscribe('news, odd');
    await fourth.closed;
    const fifth = await hub.poll();
    assert.deepEqual([fifth.wait, fifth.topics], ['0', ['news, odd']]);
    fifth.answer([], { user: 'e:3', tenant: 'f:7', 'topic:news, odd': 'g:1' });
    assert.deepEqual(await one.next('subscribed'), { topic: 'topic:news, odd' });
    const sixth = await hub.poll();
    assert.equal(sixth.positions['topic:news, odd'], 'g:1');
    one.client.unsubscribe('news, odd');
    const seventh = await hub.poll();
    assert.deepEqual([seventh.topics, seventh.positions], [[], { user: 'e:3', tenant: 'f:7' }]);
    // What was asked with the old wish does not bring the topic back.
    seventh.answer([], { user: 'e:3', tenant: 'f:7', 'topic:news, odd': 'g:1' });
    assert.deepEqual((await hub.poll()).positions, { user: 'e:3', tenant: 'f:7' });
  }),
);

test(
  'polling that fails comes back with back-off, and goes down to the inbox when it goes on failing',
  withoutStreams(async (hub, probe) => {
    const one = await probe();
    (await hub.poll()).answer([], { user: 'e:0' });
    await via(one, 'poll');
    (await hub.poll()).refuse(503, { code: 'unavailable' }, { 'retry-after': '7' });
    await one.clock.pass(7500);
    (await hub.poll()).answer([], { user: 'e:0' });
    await via(one, 'poll');
    const late = await hub.poll();
    hub.polling = 'absent';
    hub.feed(upsert('f1'));
    late.response.destroy();
    await one.clock.armed(1000);
    one.clock.advance(1000);
    await via(one, 'inbox');
    await one.next('notification', ({ id }) => id === 'f1');
  }),
);

test(
  'what a stream says at its end is done',
  withoutSockets(async (hub, probe) => {
    let n = 0;
    const tokens = [1, 2, 3].map((id) => jwt({ sub: 'u1', id }));
    const one = await probe({ token: async () => tokens[n++] });
    const first = await hub.stream();
    assert.equal(first.token, tokens[0]);
    first.welcome({ user: 'e:0' });
    await via(one, 'sse');
    first.close(1012, 'restart', 7000);
    await one.next('state', ({ retryInMs }) => retryInMs === 7500);
    one.clock.advance(7500);
    const second = await hub.stream();
    second.welcome({ user: 'e:0' });
    await via(one, 'sse');
    second.close(4001, 'token expired');
    await one.clock.pass(5000);
    const third = await hub.stream();
    assert.equal(third.token, tokens[1]);
    third.welcome({ user: 'e:0' });
    await via(one, 'sse');
    // A token that will run out: a new stream with a new one, at once.
    third.send({ type: 'expiring', at: 1 });
    const fourth = await hub.stream();
    assert.equal(fourth.token, tokens[2]);
    fourth.welcome({ user: 'e:0' });
    fourth.close(4003, 'disconnected');
    assert.equal((await one.next('error')).terminal, true);
    assert.equal(one.client.state, 'closed');
  }),
);

test(
  'a topic that is not allowed is told, and the next rung is tried',
  withoutSockets(async (hub, probe) => {
    const one = await probe();
    const first = await hub.stream();
    first.welcome({ user: 'e:0' });
    await via(one, 'sse');
    hub.sse = (response) => {
      response.writeHead(403, { 'content-type': 'application/problem+json' });
      response.end(JSON.stringify({ code: 'forbidden_topic', detail: 'not yours', field: 'topics' }));
    };
    one.client.subscribe('secret');
    const error = await one.next('error');
    assert.deepEqual([error.code, error.field], ['forbidden_topic', 'topics']);
    assert.deepEqual((await hub.poll()).topics, ['secret']);
  }),
);

test(
  'a stream that is refused for its token is opened with another',
  withoutSockets(async (hub, probe) => {
    let asked = 0;
    const one = await probe({ token: () => `t${(asked += 1)}` });
    const first = await hub.stream();
    first.welcome({ user: 'e:0' });
    await via(one, 'sse');
    await one.next('resync');
    const used = first.token;
    hub.tokens = ['t2', 't3'];
    first.cut();
    await one.clock.pass(500);
    await one.clock.pass(5000);
    const second = await hub.stream();
    assert.deepEqual([used, second.token], ['t1', 't2']);
  }),
);

test(
  'a gap is resumed: by a new stream, and by the next poll',
  withoutSockets(async (hub, probe) => {
    const one = await probe();
    const first = await hub.stream();
    first.welcome({ user: 'e:0' });
    first.notify('n9', 'e:9');
    first.send({ type: 'gap', topic: 'user', position: 'e:4' }, { user: 'e:9' });
    const second = await hub.stream();
    assert.deepEqual(second.positions, { user: 'e:4' });
    second.welcome({ user: 'e:4' });
    hub.sse = 'absent';
    second.cut();
    await one.clock.pass(500);
    const poll = await hub.poll();
    poll.answer([{ type: 'gap', topic: 'user', position: 'e:3' }], { user: 'e:9' });
    const next = await hub.poll();
    assert.deepEqual([next.wait, next.positions], ['0', { user: 'e:3' }]);
  }),
);

test(
  'receipts are told beside the stream, with its session',
  withoutSockets(async (hub, probe) => {
    const one = await probe();
    const stream = await hub.stream();
    stream.welcome({ user: 'e:0' });
    await via(one, 'sse');
    stream.send({ type: 'notification', id: 'n1', title: 't', topic: 'user', position: 'e:1', receipt: true }, { user: 'e:1' });
    await one.next('notification');
    await one.clock.pass(150);
    const told = await hub.request('/api/v1/commands');
    assert.deepEqual([told.method, told.path, told.body], ['POST', '/api/v1/commands?session=s1', { type: 'ack', ids: ['n1'] }]);
  }),
);

test(
  'a stream in which nothing is heard is opened anew',
  withoutSockets(async (hub, probe) => {
    const one = await probe();
    const first = await hub.stream();
    first.welcome({ user: 'e:0' }, { heartbeat_ms: 7000 });
    await via(one, 'sse');
    first.response.write(':\n\n');
    await one.clock.pass(14_000);
    await first.closed;
    await one.clock.pass(500);
    assert.deepEqual((await hub.stream()).positions, { user: 'e:0' });
  }),
);

test(
  'waking tries every rung, and asks anew where a poll waits',
  withoutStreams(async (hub, probe) => {
    const wakeUps = new EventTarget();
    const one = await probe({ wakeUps });
    (await hub.poll()).answer([], { user: 'e:0' });
    const waiting = await hub.poll();
    hub.sse = 'accept';
    wakeUps.dispatchEvent(new Event('online'));
    await waiting.closed;
    assert.equal((await hub.poll()).wait, '0');
    (await hub.stream()).welcome({ user: 'e:0' });
    await via(one, 'sse');
  }),
);
