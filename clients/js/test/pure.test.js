import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../src/backoff.js';
import { Positions } from '../src/positions.js';
import { judgeClose, retryHint, toNotification } from '../src/protocol.js';
import { SeenIds } from '../src/seen.js';
import { claimsOf, expiryOf, TokenSource } from '../src/token.js';
import { jwt } from './support.js';

test('back-off doubles to its cap, jitters fully and starts again', () => {
  const top = new Backoff({ baseMs: 500, capMs: 30_000, random: () => 1 });
  assert.deepEqual(Array.from({ length: 8 }, () => top.next()), [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  top.reset();
  assert.equal(top.next(), 500);
  assert.equal(new Backoff({ random: () => 0 }).next(), 0);
});

test('back-off never comes before a hint or a floor', () => {
  const backoff = new Backoff({ random: () => 0 });
  assert.equal(backoff.next({ hintMs: 1500 }), 1500);
  assert.equal(backoff.next({ floorMs: 5000 }), 5000);
  const eager = new Backoff({ random: () => 1 });
  assert.equal(eager.next({ hintMs: 60_000 }), 60_500, 'a hint may exceed the cap');
});

test('seen ids are bounded, and a repeat keeps an id young', () => {
  const seen = new SeenIds(2);
  assert.equal(seen.add('a'), true);
  assert.equal(seen.add('b'), true);
  assert.equal(seen.add('a'), false);
  assert.equal(seen.add('c'), true);
  assert.equal(seen.has('b'), false);
  assert.equal(seen.has('a'), true);
  assert.equal(seen.size, 2);
});

test('a live frame does not overtake a replay that is under way', () => {
  const positions = new Positions({ user: 'e:5' });
  assert.deepEqual(positions.beginResume(['user', 'tenant']), { user: 'e:5' });
  positions.advance('user', 'e:10');
  assert.equal(positions.get('user'), 'e:5');
  positions.disconnected();
  assert.deepEqual(positions.beginResume(['user']), { user: 'e:5' }, 'asked for again from the old place');
  positions.advance('user', 'e:11');
  positions.recovered({ user: 'e:10' });
  assert.equal(positions.get('user'), 'e:10');
  positions.advance('user', 'e:12');
  assert.equal(positions.get('user'), 'e:12');
});

test('a refused replay goes on from what is newest, or stays where it was', () => {
  const positions = new Positions({ user: 'e:5', tenant: 'e:1' });
  positions.beginResume(['user', 'tenant']);
  positions.advance('user', 'f:1');
  positions.lost('user');
  positions.lost('tenant');
  assert.deepEqual(positions.all(), { user: 'f:1', tenant: 'e:1' });
  positions.rewind('user', 'f:0');
  assert.equal(positions.get('user'), 'f:0');
});

test('retry hints are read from JSON and from text', () => {
  assert.equal(retryHint('{"retry_after_ms":1234}'), 1234);
  assert.equal(retryHint('draining; retry_after_ms=800'), 800);
  assert.equal(retryHint('draining, retry after 2 s'), 2000);
  assert.equal(retryHint('retry-after: 750ms'), 750);
  assert.equal(retryHint('slow consumer'), undefined);
  assert.equal(retryHint(''), undefined);
  assert.equal(retryHint('{"retry_after_ms":"x"}'), undefined);
});

test('close codes say what comes next', () => {
  const nothing = { terminal: false, renewToken: false, planned: false, broken: false, floorMs: 0, hintMs: undefined };
  const expected = {
    1000: { terminal: true },
    1002: { broken: true, floorMs: 300_000 },
    1003: { broken: true, floorMs: 300_000 },
    1006: {},
    1007: { broken: true, floorMs: 300_000 },
    1009: {},
    1012: { planned: true },
    1013: {},
    4001: { renewToken: true, floorMs: 5000 },
    4002: { renewToken: true, floorMs: 5000 },
    4003: { terminal: true },
    4007: { floorMs: 5000 },
    4008: { planned: true },
    4009: {},
  };
  for (const [code, verdict] of Object.entries(expected)) {
    assert.deepEqual(judgeClose(Number(code), ''), { ...nothing, ...verdict }, code);
  }
  assert.equal(judgeClose(1012, '{"retry_after_ms":9}').hintMs, 9);
  // What an operator adds counts more than the code, in operators' closes only.
  for (const [code, reason, terminal, planned, hintMs] of /** @type {const} */ ([
    [4003, 'disconnected', true, false, undefined],
    [4003, 'disconnected; retry_after_ms=1500', false, true, 1500],
    [4003, 'moved; reconnect=no', true, false, undefined],
    [4100, 'moved', false, false, undefined],
    [4100, 'moved; reconnect=no', true, false, undefined],
    [4100, 'moved; retry_after_ms=0', false, true, 0],
    [1002, 'x; reconnect=no', false, false, undefined],
  ])) {
    const verdict = judgeClose(code, reason);
    assert.deepEqual([verdict.terminal, verdict.planned, verdict.hintMs], [terminal, planned, hintMs], `${code} ${reason}`);
  }
});

test('a frame and a row of the list become the same shape', () => {
  const frame = toNotification({ type: 'notification', id: 'n', title: 't', content: 'c', message: 'c', kind: 'alert', priority: 'high', metadata: { a: 1 }, timestamp: 1771583400, created_at: '2026-02-20T10:30:00Z', topic: 'user' });
  const row = toNotification({ id: 'n', title: 't', message: 'c', type: 'alert', priority: 'high', extra_data: { a: 1 }, created_at: '2026-02-20T10:30:00', is_read: false, read_at: null });
  for (const key of ['id', 'title', 'content', 'kind', 'priority', 'metadata', 'timestamp', 'is_read']) {
    assert.deepEqual(row[key], frame[key], key);
  }
});

test('claims are read from any token, and nothing breaks on rubbish', () => {
  assert.equal(claimsOf(jwt({ sub: '张三' })).sub, '张三');
  assert.equal(expiryOf(jwt({ exp: 5 })), 5000);
  assert.equal(claimsOf('rubbish'), undefined);
  assert.equal(claimsOf(''), undefined);
});

test('a token is asked for once, and again when it ran out or was refused', async () => {
  let now = 0;
  let asked = 0;
  const source = new TokenSource(async () => jwt({ n: (asked += 1), exp: 10 * asked }), () => now);
  const [one, same] = await Promise.all([source.get(), source.get()]);
  assert.equal(one, same);
  assert.equal(asked, 1);
  now = 10_000;
  const two = await source.get();
  assert.equal(asked, 2);
  source.reject(one);
  assert.equal(await source.get(), two, 'late news about the old token');
  source.reject(two);
  await source.get();
  assert.equal(asked, 3);
});
