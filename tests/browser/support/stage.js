import { after, before } from 'node:test';
import { launch } from './browser.js';
import { Server } from './server.js';

/**
 * A server and a browser for all tests of a file.
 * @template {{ stop: () => Promise<void> }} T
 * @param {() => Promise<T>} [start] what is started as the server
 * @returns {{ server: T, browser: import('playwright-core').Browser }} filled in before the first test
 */
export function stage(start = () => /** @type {any} */ (Server.start())) {
  const stage = /** @type {any} */ ({});
  before(async () => {
    stage.server = await start();
    stage.browser = await launch();
  });
  after(async () => {
    await stage.browser?.close();
    await stage.server?.stop();
  });
  return stage;
}

/**
 * A page in a context of its own.
 * @param {import('playwright-core').Browser} browser
 * @param {import('playwright-core').BrowserContextOptions} options
 * @param {(context: import('playwright-core').BrowserContext) => Promise<void>} run
 */
export async function withContext(browser, options, run) {
  const context = await browser.newContext(options);
  try {
    await run(context);
  } finally {
    await context.close();
  }
}
