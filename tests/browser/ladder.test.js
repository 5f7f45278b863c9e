import { test } from 'node:test';
import { Counter, Numbers } from './support/numbers.js';
import { Proxy } from './support/proxy.js';
import { stage, withContext } from './support/stage.js';

const on = stage();

test('through every rung of the ladder and back, each message comes once and in order', () =>
  withContext(on.browser, {}, async (context) => {
    const proxy = await Proxy.start(on.server.port);
    let numbers;
    try {
      const page = await context.newPage();
      await page.goto(proxy.url);
      const client = await Counter.begin(page, await on.server.token('climber'));
      await client.via('websocket');
      numbers = new Numbers((body) => on.server.publish(body));
      const more = (count = 1) => client.got(numbers.last + count);

      proxy.refusing = true;
      proxy.cut();
      await client.via('sse');
      await more();
      proxy.cutPath('/api/v1/sse');
      await more();

      proxy.heldPath = '/api/v1/sse';
      proxy.cutPath('/api/v1/sse');
      await client.via('poll');
      await more(5);

      proxy.refusedPath = '/api/v1/poll';
      proxy.cutPath('/api/v1/poll');
      await client.via('inbox');

      proxy.refusedPath = undefined;
      await client.via('poll');
      await more();
      proxy.heldPath = undefined;
      await client.via('sse');
      await more();
      proxy.refusing = false;
      await client.via('websocket');
      await more();

      await numbers.stop();
      await client.gotAll(numbers.last);
    } finally {
      await numbers?.stop();
      await proxy.stop();
    }
  }));
