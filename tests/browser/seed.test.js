import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { test } from 'node:test';
import { launch } from './support/browser.js';
import { Server } from './support/server.js';

/** The port is the snippet's own. */
const PORT = 8000;
/** Any page of that origin; the application's own would stand there. */
const HOST_PAGE = `http://localhost:${PORT}/ready`;

/** What the document takes for granted around its snippet. */
function hostPage() {
  globalThis.received = [];
  globalThis.reconnects = 0;
  globalThis.showNotification = (notification) => globalThis.received.push(notification);
  globalThis.connectWebSocket = () => (globalThis.reconnects += 1);
}

test('the S1 snippet, unchanged, receives notifications, and its ping breaks nothing', async () => {
  await portIsFree();
  const snippet = await readFile(new URL('fixtures/s1-snippet.js', import.meta.url), 'utf8');
  const server = await Server.start({ port: PORT });
  const browser = await launch();
  try {
    // The host page is the application's, and so is its policy: ours does not allow a script in the page.
    const page = await browser.newPage({ bypassCSP: true });
    const errors = [];
    page.on('pageerror', (error) => errors.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && /WebSocket/.test(message.text()) && errors.push(message.text()));
    await page.clock.install(); // The ping is 30 s away.
    await page.goto(HOST_PAGE);
    await page.evaluate((token) => localStorage.setItem('access_token', token), await server.token('s1'));
    await page.evaluate(hostPage);
    const opened = page.waitForEvent('console', (message) => message.text().includes('连接已建立'));
    const socket = page.waitForEvent('websocket');
    await page.addScriptTag({ content: snippet });
    const pinged = (await socket).waitForEvent('framesent', ({ payload }) => payload === 'ping');
    await opened;

    const first = await server.send({ user_id: 's1', title: '库存预警', message: '鸡肉库存不足', type: 'warning', priority: 'high' });
    await page.waitForFunction(() => globalThis.received.length === 1);
    await page.clock.runFor(30_000);
    await pinged;
    const second = await server.send({ to: { user: 's1' }, title: 'After the ping', content: 'still here' });
    await page.waitForFunction(() => globalThis.received.length === 2);

    const received = await page.evaluate(() => globalThis.received);
    assert.deepEqual(received.map(({ id }) => id), [first, second]);
    assert.deepEqual(received.map(({ type }) => type), ['notification', 'notification']);
    assert.equal(received[0].title, '库存预警');
    assert.equal(received[0].message, '鸡肉库存不足');
    assert.equal(await page.evaluate(() => globalThis.reconnects), 0);
    assert.deepEqual(errors, []);
  } finally {
    await browser.close();
    await server.stop();
  }
});

async function portIsFree() {
  const socket = connect(PORT, '127.0.0.1');
  const taken = await new Promise((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
  });
  socket.destroy();
  assert.equal(taken, false, `port ${PORT}, which the S1 snippet names, is taken: stop what listens there, and run this test again`);
}
