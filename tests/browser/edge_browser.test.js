// The page and the client in a real browser, by HTTPS and WSS through nginx.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Tab } from './support/browser.js';
import { Edge } from './support/edge.js';
import { Counter, Numbers } from './support/numbers.js';
import { stage, withContext } from './support/stage.js';

const on = stage(() => Edge.start({ CARILLON_NGINX_SHUTDOWN: '1s' }));

/** The certificate is the test's own. */
const SELF_SIGNED = { ignoreHTTPSErrors: true };

/** Puts a `return` before what a location does, and takes it away again. */
const blocked = (path, status) => (text) =>
  text.replace(new RegExp(`(location = ${path} +\\{)`), `$1 return ${status};`);
const unblocked = (text) => text.replaceAll(/ return (403|503);/g, '');

test('live, cut, fallback and back: each message comes once and in order', () =>
  withContext(on.browser, SELF_SIGNED, async (context) => {
    const { nginx } = on.server;
    const page = await context.newPage();
    await page.goto(nginx.url);
    const client = await Counter.begin(page, await on.server.token('traveller'));
    await client.via('websocket');
    const numbers = new Numbers((body) => on.server.publish(body));
    const more = (count = 1) => client.got(numbers.last + count);
    try {
      await more(3);

      // Cut: nginx's workers that hold the connection end; then each hub dies, the socket's own among them.
      await nginx.reload();
      await nginx.settled();
      await more();
      for (const hub of on.server.hubs) {
        await client.via('websocket');
        await hub.kill();
        await more();
        await hub.restart();
        await more();
      }
      await client.via('websocket');

      // A network without WebSockets, then without streams.
      await nginx.change('conf.d/locations.conf', blocked('/api/v1/ws', 403));
      await nginx.reload();
      await client.via('sse');
      await more(3);
      await nginx.change('conf.d/locations.conf', blocked('/api/v1/sse', 503));
      await nginx.reload();
      await client.via('poll');
      await more(3);

      await nginx.change('conf.d/locations.conf', unblocked);
      await nginx.reload();
      await client.via('websocket');
      await more(3);
      await numbers.stop();
      await client.gotAll(numbers.last);
    } finally {
      await numbers.stop();
    }
  }));

test('the page is live by HTTPS', () =>
  withContext(on.browser, SELF_SIGNED, async (context) => {
    const tab = await Tab.open(context, on.server.nginx.url, await on.server.token('secure'));
    const socket = tab.page.waitForEvent('websocket');
    await tab.page.reload();
    assert.match((await socket).url(), /^wss:/);
    await tab.state('live');
    const id = await on.server.dispatcher.send({ to: { user: 'secure' }, title: 'Through nginx', content: 'By WSS', kind: 'success' });
    await tab.page.locator(`.toast[data-id="${id}"]`).waitFor();
    await tab.shows(id);
    await tab.unread(1);
    await tab.screenshot('edge');
    tab.sound();
  }));
