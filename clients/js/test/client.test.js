import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jwt, upsert, withHub } from './support.js';

test(
  'the token travels as a sub-protocol, and a live notification arrives',
  withHub(async (hub, probe) => {
    const one = probe();
    const session = await hub.session();
    assert.deepEqual(session.protocols, ['carillon.v1', 'bearer.fixed']);
    await one.state('live');
    session.notify('n1', 'e:1', { priority: 'urgent' });
    const arrived = await one.next('notification');
    assert.equal(arrived.priority, 'urgent');
    assert.equal(arrived.source, 'live');
    assert.equal(one.client.snapshot().positions.user, 'e:1');
    session.send({ type: 'message', id: 'm1', data: { a: 1 }, topic: 'user', position: 'e:2' });
    session.send({ type: 'message', id: 'm1', data: { a: 1 }, topic: 'user', position: 'e:2' });
    session.notify('n1', 'e:1');
    session.notify('n2', 'e:3');
    await one.next('notification', ({ id }) => id === 'n2');
    assert.deepEqual(one.ids, ['n1', 'n2'], 'a repeat is dropped');
    assert.equal(one.all('message').length, 1);
  }),
);

test(
  'first the cursor, then the word to load the list',
  withHub(async (hub, probe) => {
    hub.changes = [upsert('old')];
    const one = probe();
    assert.deepEqual(await one.next('resync'), { inbox: true, topics: [] });
    assert.equal(one.client.snapshot().cursor, '1');
    assert.deepEqual(one.ids, []);
  }),
);

test(
  'after a cut it resumes from its positions, and the feed fills what no replay has',
  withHub(async (hub, probe) => {
    const one = probe();
    const first = await hub.session();
    await one.next('resync');
    first.notify('n1', 'e:1');
    await one.next('notification');
    hub.feed(upsert('n1'), upsert('n2'), upsert('n3'), { op: 'state', id: 'n1', is_read: true, read_at: '2026-02-20T10:30:00Z', archived_at: null }, { op: 'state', id: 'n0', is_read: false, read_at: null, archived_at: null, snoozed_until: '2026-02-21T08:00:00Z' });
    first.socket.terminate();
    await one.clock.pass(500);
    const second = await hub.session();
    assert.deepEqual((await second.got('resume')).positions, { user: 'e:1' });
    second.notify('n2', 'e:2');
    second.send({ type: 'recovered', positions: { user: 'e:2' }, count: 1 });
    await one.next('changed', ({ state }) => state === 'read');
    assert.deepEqual([...one.ids].sort(), ['n1', 'n2', 'n3']);
    await one.next('changed', ({ ids, state }) => state === 'updated' && ids[0] === 'n1');
    await one.next('changed', ({ ids, state }) => state === 'snoozed' && ids[0] === 'n0');
  }),
);

test(
  'a cut in the middle of a replay asks for the same replay again',
  withHub(async (hub, probe) => {
    const one = probe({ positions: { user: 'e:5' }, cursor: '0' });
    const first = await hub.session();
    assert.deepEqual((await first.got('resume')).positions, { user: 'e:5' });
    first.notify('n9', 'e:9');
    await one.next('notification');
    first.socket.terminate();
    await one.clock.pass(500);
    const second = await hub.session();
    assert.deepEqual((await second.got('resume')).positions, { user: 'e:5' });
    for (const n of [6, 7, 8, 9]) second.notify(`n${n}`, `e:${n}`);
    second.send({ type: 'recovered', positions: { user: 'e:9' }, count: 4 });
    second.notify('n10', 'e:10');
    await one.next('notification', ({ id }) => id === 'n10');
    assert.deepEqual(one.ids, ['n9', 'n6', 'n7', 'n8', 'n10']);
    assert.equal(one.client.snapshot().positions.user, 'e:10');
  }),
);

test(
  'three failed tries, then polling; and back to the socket when it works',
  withHub(async (hub, probe) => {
    hub.sockets = 'refuse';
    const one = probe();
    await one.clock.pass(500);
    await one.clock.pass(1000);
    await one.state('polling');
    assert.equal(one.client.state, 'polling');
    await hub.request('/api/v1/inbox/changes?after=0&wait=25');
    await one.clock.pass(2000);
    await one.clock.armed(4000); // Tried in vain; meanwhile polling waits.
    hub.feed(upsert('p1'));
    assert.equal(await hub.released(), '0', 'answered');
    assert.equal((await one.next('notification')).source, 'feed');
    await one.clock.pass(2000);
    await hub.request('/api/v1/inbox/changes?after=1&wait=25');
    hub.sockets = 'accept';
    one.clock.advance(2000);
    const session = await hub.session();
    await one.state('live');
    assert.equal(await hub.released(), '1', 'given up, once live');
    hub.feed(upsert('p2'));
    session.notify('p2', 'e:2');
    session.notify('p3', 'e:3');
    await one.next('notification', ({ id }) => id === 'p3');
    assert.deepEqual(one.ids, ['p1', 'p2', 'p3']);
    assert.equal(one.client.state, 'live');
  }),
);

test(
  'polling goes on trying the socket, with a bounded delay',
  withHub(async (hub, probe) => {
    hub.sockets = 'refuse';
    const one = probe();
    for (const delay of [500, 1000, 2000, 4000, 8000, 16_000]) await one.clock.pass(delay);
    await one.clock.armed(30_000);
    assert.equal(one.client.state, 'polling');
    assert.equal(one.all('state').filter(({ state }) => state === 'polling').length, 1);
  }),
);

test(
  'with no server at all it is offline, and comes back by itself',
  withHub(async (hub, probe) => {
    hub.sockets = 'refuse';
    hub.http = false;
    const one = probe();
    await one.clock.pass(500);
    await one.clock.pass(1000);
    await one.state('offline');
    hub.http = true;
    await one.clock.pass(500);
    await one.state('polling');
    hub.sockets = 'accept';
    one.clock.advance(30_000);
    await one.state('live');
  }),
);

test(
  'short-lived sockets count as failed tries',
  withHub(async (hub, probe) => {
    const one = probe();
    for (const delay of [500, 1000, 2000]) {
      (await hub.session()).socket.terminate();
      await one.clock.armed(delay);
      if (delay < 2000) one.clock.advance(delay);
    }
    await one.state('polling');
  }),
);

test(
  'a socket that says nothing is given up',
  withHub(async (hub, probe) => {
    const one = probe();
    const first = await hub.session();
    await one.state('live');
    await one.clock.pass(25_000);
    await first.got('ping');
    first.notify('n1', 'e:1'); // Comes after the pong.
    await one.next('notification');
    first.answersPings = false;
    await one.clock.pass(25_000);
    await first.got('ping');
    await one.clock.pass(10_000);
    await one.down();
    one.clock.advance(500);
    await hub.session();
    await one.state('live');
  }),
);

test(
  'a socket without a welcome is given up',
  withHub(async (hub, probe) => {
    hub.sockets = () => undefined;
    const one = probe();
    await hub.session();
    await one.clock.pass(8001);
    await one.next('state', ({ failures }) => failures === 1);
  }),
);

test(
  'a hub that drains says when to come back, and that is no failure',
  withHub(async (hub, probe) => {
    const one = probe();
    const session = await hub.session();
    await one.state('live');
    session.socket.close(1012, '{"retry_after_ms":7000}');
    const state = await one.down();
    assert.equal(state.failures, 0);
    assert.equal(state.retryInMs, 7500);
  }),
);

test(
  'an error frame with a hint is reported, and honoured at the next close',
  withHub(async (hub, probe) => {
    const one = probe();
    const session = await hub.session();
    await one.state('live');
    session.send({ type: 'error', code: 'rate_limited', message: 'slow down', retry_after_ms: 4000 });
    assert.equal((await one.next('error')).retryAfterMs, 4000);
    session.socket.close(4008, 'slow consumer');
    assert.equal((await one.down()).retryInMs, 4500);
  }),
);

test(
  'forbidden and normal closes are the end',
  withHub(async (hub, probe) => {
    for (const code of [4003, 1000]) {
      const one = probe();
      (await hub.session()).socket.close(code, 'no');
      await one.state('closed');
      assert.equal((await one.next('error')).terminal, true);
    }
  }),
);

test(
  'a socket that breaks the protocol is left for long; polling goes on',
  withHub(async (hub, probe) => {
    const one = probe();
    (await hub.session()).socket.close(1002, 'protocol error');
    await one.state('polling');
    await one.clock.armed(300_000);
  }),
);

test(
  'an expired token is replaced: on 4001, on 401, and when the hub warns',
  withHub(async (hub, probe) => {
    let n = 0;
    const tokens = [1, 2, 3].map((id) => jwt({ sub: 'u1', id }));
    hub.tokens = [tokens[0]];
    const one = probe({ token: async () => tokens[n++] });
    const first = await hub.session();
    assert.equal(first.protocols[1], `bearer.${tokens[0]}`);
    await one.next('resync');
    hub.tokens = [tokens[1]];
    first.socket.close(4001, 'token expired');
    assert.equal((await one.down()).retryInMs, 5000, 'no hammering');
    one.clock.advance(5000);
    const second = await hub.session();
    assert.equal(second.protocols[1], `bearer.${tokens[1]}`);
    second.send({ type: 'expiring', at: 1 });
    assert.equal((await second.got('refresh')).token, tokens[2]);
    hub.tokens = [tokens[2]];
    await one.client.markRead(['n1']);
    assert.equal((await hub.request('/api/v1/notifications/n1/read')).token, tokens[2]);
  }),
);

test(
  'a 401 asks for a token once, and repeats the call',
  withHub(async (hub, probe) => {
    let asked = 0;
    hub.tokens = ['t2'];
    const one = probe({ token: () => `t${(asked += 1)}` });
    await one.next('resync');
    assert.equal(asked, 2);
  }),
);

test(
  'a fixed token that is refused is the end',
  withHub(async (hub, probe) => {
    hub.tokens = ['other'];
    hub.sockets = 'refuse';
    const one = probe();
    await one.state('closed');
    const error = await one.next('error');
    assert.equal(error.code, 'token_expired');
    assert.equal(error.terminal, true);
  }),
);

test(
  'a cursor that is too old: a new one, and the word to load the list',
  withHub(async (hub, probe) => {
    hub.firstCursor = 5;
    hub.changes = Array.from({ length: 9 }, (_, i) => upsert(`n${i}`));
    const one = probe({ cursor: '2' });
    assert.equal((await one.next('resync')).inbox, true);
    assert.equal(one.client.snapshot().cursor, '9');
    assert.deepEqual(one.ids, []);
  }),
);

test(
  'a resync frame catches up by the feed',
  withHub(async (hub, probe) => {
    const one = probe();
    const session = await hub.session();
    await one.next('resync');
    hub.feed(upsert('a'), upsert('b'), upsert('c'));
    session.send({ type: 'resync', topics: ['user'] });
    assert.deepEqual(await one.next('resync'), { inbox: false, topics: ['user'] });
    await one.next('notification', ({ id }) => id === 'c');
    assert.deepEqual(one.ids, ['a', 'b', 'c']);
  }),
);

test(
  'a gap is resumed from where it began',
  withHub(async (hub, probe) => {
    const one = probe();
    const session = await hub.session();
    await one.state('live');
    session.notify('n9', 'e:9');
    session.send({ type: 'gap', topic: 'user', position: 'e:4' });
    assert.deepEqual((await session.got('resume')).positions, { user: 'e:4' });
  }),
);

test(
  'receipts only where asked for, together, and again for a repeat',
  withHub(async (hub, probe) => {
    const one = probe();
    const session = await hub.session();
    await one.state('live');
    session.notify('n1', 'e:1', { receipt: true });
    session.notify('n2', 'e:2');
    session.notify('n3', 'e:3', { receipt: true });
    session.notify('n3', 'e:3', { receipt: true });
    session.notify('n4', 'e:4');
    await one.next('notification', ({ id }) => id === 'n4');
    await one.clock.pass(150);
    assert.deepEqual((await session.got('ack')).ids, ['n1', 'n3']);
    assert.deepEqual(session.unread, []);
  }),
);

test(
  'receipts that met a cut go out on the next socket',
  withHub(async (hub, probe) => {
    const one = probe();
    const first = await hub.session();
    await one.state('live');
    first.notify('n1', 'e:1', { receipt: true });
    await one.next('notification');
    first.socket.terminate();
    await one.down();
    one.clock.advance(500);
    assert.deepEqual((await (await hub.session()).got('ack')).ids, ['n1']);
  }),
);

test(
  'explicit topics are resumed together with the others, and subscribed where there is no position',
  withHub(async (hub, probe) => {
    const one = probe();
    const first = await hub.session();
    await one.state('live');
    one.client.subscribe('news');
    assert.equal((await first.got('subscribe')).topic, 'news');
    first.send({ type: 'subscribed', topic: 'topic:news', position: 'e:7' });
    await one.next('subscribed');
    first.socket.terminate();
    one.client.subscribe('sport');
    await one.clock.pass(500);
    const second = await hub.session();
    assert.deepEqual((await second.got('resume')).positions, { user: 'e:0', 'topic:news': 'e:7' });
    assert.equal((await second.got('subscribe')).topic, 'sport');
    // On its way to the replay, which is not asked for again.
    second.send({ type: 'subscribed', topic: 'topic:news', position: 'e:9' });
    second.send({ type: 'subscribed', topic: 'topic:sport', position: 'e:3' });
    assert.equal((await one.next('subscribed')).topic, 'topic:news');
    assert.equal((await one.next('subscribed')).topic, 'topic:sport');
    assert.deepEqual(one.client.snapshot().positions, { user: 'e:0', 'topic:news': 'e:7', 'topic:sport': 'e:3' });
    one.client.unsubscribe('news');
    assert.equal((await second.got('unsubscribe')).topic, 'news');
    assert.deepEqual(second.unread, []);
    assert.equal(one.client.snapshot().positions['topic:news'], undefined);
  }),
);

test(
  'unread: the server’s word, one more with each arrival, then checked',
  withHub(async (hub, probe) => {
    hub.unreadCount = 4;
    const one = probe();
    const session = await hub.session();
    await one.next('resync');
    one.clock.advance(0);
    assert.equal((await one.next('unread')).count, 4);
    session.notify('n1', 'e:1');
    assert.equal((await one.next('unread')).count, 5);
    one.clock.advance(2000); // The row was not one of the inbox: four it is.
    assert.equal((await one.next('unread')).count, 4);
    session.send({ type: 'unread', count: 0 });
    assert.equal((await one.next('unread')).count, 0);
  }),
);

test(
  'reading: one, several and all; told to the page at once',
  withHub(async (hub, probe) => {
    const one = probe();
    await one.state('live');
    await one.client.markRead(['n1']);
    assert.deepEqual(await one.next('changed'), { ids: ['n1'], state: 'read', source: 'own' });
    await one.client.markRead(['n1', 'n2']);
    assert.deepEqual((await hub.request('/api/v1/notifications/bulk-read')).body, { ids: ['n1', 'n2'] });
    await one.client.markAllRead();
    assert.equal((await hub.request('/api/v1/notifications/read-all')).method, 'PUT');
    assert.equal((await one.next('changed', ({ all }) => all)).state, 'read');
  }),
);

test(
  'a change from another session while the feed is read makes it read on',
  withHub(async (hub, probe) => {
    const one = probe();
    const session = await hub.session();
    await one.next('resync');
    session.send({ type: 'changed', ids: ['n1'], state: 'read' });
    assert.deepEqual((await one.next('changed')).ids, ['n1']);
    hub.feed({ op: 'delete', id: 'n1' }, { op: 'read_all', at: '2026-02-20T10:30:00Z' });
    session.send({ type: 'resync', topics: [] });
    assert.equal((await one.next('changed', ({ state }) => state === 'deleted')).source, 'feed');
    assert.deepEqual(await one.next('changed', ({ all }) => all), { all: true, until: 1771583400, state: 'read', source: 'feed' });
  }),
);

test(
  'a listener that throws, an odd frame and rubbish end nothing',
  withHub(async (hub, probe) => {
    const one = probe();
    const session = await hub.session();
    await one.state('live');
    one.client.on('notification', () => {
      throw new Error('mine');
    });
    session.socket.send('not json');
    session.socket.send('7');
    session.send({ type: 'of tomorrow' });
    session.notify('n1', 'e:1');
    assert.equal((await one.next('error')).code, 'listener');
    session.notify('n2', 'e:2');
    await one.next('notification', ({ id }) => id === 'n2');
    assert.equal(one.client.state, 'live');
  }),
);

test(
  'waking looks at once: a probe when live, a try when waiting',
  withHub(async (hub, probe) => {
    const wakeUps = new EventTarget();
    const one = probe({ wakeUps });
    const first = await hub.session();
    await one.state('live');
    wakeUps.dispatchEvent(new Event('visibilitychange'));
    await first.got('ping');
    first.socket.terminate();
    await one.clock.armed(500);
    wakeUps.dispatchEvent(new Event('online'));
    await hub.session();
    await one.state('live');
  }),
);

test(
  'close is the end, and connect begins anew',
  withHub(async (hub, probe) => {
    const one = probe();
    const first = await hub.session();
    await one.state('live');
    const closed = new Promise((resolve) => first.socket.on('close', resolve));
    one.client.close();
    await closed;
    await one.state('closed');
    assert.equal(one.client.state, 'closed');
    void one.client.connect();
    await hub.session();
    await one.state('live');
  }),
);
