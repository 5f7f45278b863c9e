import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { launch } from './support/browser.js';
import { Proxy } from './support/proxy.js';
import { Server } from './support/server.js';

let server;
let browser;

before(async () => {
  server = await Server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Runs in the page: a client that keeps what it is told. */
async function begin(token) {
  const { CarillonClient } = await import('/client/index.js');
  const timing = { openTimeoutMs: 2_000, backoffBaseMs: 100, backoffCapMs: 1_000 };
  const client = new CarillonClient({ token, timing });
  globalThis.kept = { numbers: [], ways: [], via: undefined };
  client.on('message', ({ data }) => globalThis.kept.numbers.push(data));
  client.on('state', ({ via }) => {
    globalThis.kept.via = via;
    globalThis.kept.ways.push(via);
  });
  const subscribed = new Promise((resolve) => client.on('subscribed', resolve));
  client.subscribe('numbers');
  await client.connect();
  await subscribed;
}

test('through every rung of the ladder and back, each message comes once and in order', async () => {
  const proxy = await Proxy.start(server.port);
  const context = await browser.newContext();
  let publishing = true;
  let last = -1;
  try {
    const page = await context.newPage();
    await page.goto(proxy.url);
    await page.evaluate(begin, await server.token('climber'));
    const via = (way) => page.waitForFunction((wanted) => globalThis.kept.via === wanted, way, { timeout: 30_000 });
    const got = (number) =>
      page.waitForFunction((wanted) => globalThis.kept.numbers.includes(wanted), number, { timeout: 30_000 });
    await via('websocket');
    // From now on without a pause, whatever happens on the way.
    const published = (async () => {
      while (publishing) {
        last += 1;
        await server.publish({ to: { topic: 'numbers' }, data: last });
        await pause(80);
      }
    })();

    proxy.refusing = true;
    proxy.cut();
    await via('sse');
    await got(last + 1);
    proxy.cutPath('/api/v1/sse');
    await got(last + 1);

    proxy.heldPath = '/api/v1/sse';
    proxy.cutPath('/api/v1/sse');
    await via('poll');
    await got(last + 5);

    proxy.refusedPath = '/api/v1/poll';
    proxy.cutPath('/api/v1/poll');
    await via('inbox');

    proxy.refusedPath = undefined;
    await via('poll');
    await got(last + 1);
    proxy.heldPath = undefined;
    await via('sse');
    await got(last + 1);
    proxy.refusing = false;
    await via('websocket');
    await got(last + 1);

    publishing = false;
    await published;
    await got(last);
    const { numbers } = await page.evaluate(() => globalThis.kept);
    assert.deepEqual(numbers, [...Array(last + 1).keys()]);
  } finally {
    publishing = false;
    await context.close();
    await proxy.stop();
  }
});
