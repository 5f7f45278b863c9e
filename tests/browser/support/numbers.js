import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

const TOPIC = 'numbers';
const PATIENCE_MS = 30_000;

/** Publishes 0, 1, 2 … to a topic, whatever happens on the way. */
export class Numbers {
  last = -1;
  #publishing = true;
  #done;

  /** @param {(body: Record<string, unknown>) => Promise<void>} publish */
  constructor(publish) {
    this.#done = (async () => {
      while (this.#publishing) {
        await publish({ to: { topic: TOPIC }, data: this.last + 1, idempotency_key: `number-${this.last + 1}` });
        this.last += 1;
        await pause(80);
      }
    })();
    // Who asks for it at the end gets the failure; until then it is nobody's.
    this.#done.catch(() => undefined);
  }

  /** Ends; fails if a publish failed. */
  async stop() {
    this.#publishing = false;
    await this.#done;
  }
}

/** The JavaScript client in a page, which keeps the numbers and the ways by which they came. */
export class Counter {
  #page;

  /**
   * @param {import('playwright-core').Page} page any page of the server's
   * @param {string} token
   */
  static async begin(page, token) {
    const counter = new Counter();
    counter.#page = page;
    await page.evaluate(begin, [token, TOPIC]);
    return counter;
  }

  /** @param {import('../../../clients/js/src/index.js').Transport} way */
  async via(way) {
    await this.#page.waitForFunction((wanted) => globalThis.kept.via === wanted, way, { timeout: PATIENCE_MS });
  }

  /** @param {number} number */
  async got(number) {
    await this.#page.waitForFunction((wanted) => globalThis.kept.numbers.includes(wanted), number, { timeout: PATIENCE_MS });
  }

  /** Each number up to the last one, once and in order; and of no topic anything was lost. @param {number} last */
  async gotAll(last) {
    await this.got(last);
    const { numbers, resyncs } = await this.#page.evaluate(() => globalThis.kept);
    assert.deepEqual(numbers, [...Array(last + 1).keys()]);
    assert.deepEqual(resyncs, []);
  }
}

/** Runs in the page. */
async function begin([token, topic]) {
  const { CarillonClient } = await import('/client/index.js');
  const timing = { openTimeoutMs: 2_000, backoffBaseMs: 100, backoffCapMs: 1_000 };
  const client = new CarillonClient({ token, timing });
  globalThis.kept = { numbers: [], resyncs: [], via: undefined };
  client.on('message', ({ data }) => globalThis.kept.numbers.push(data));
  client.on('resync', ({ topics }) => globalThis.kept.resyncs.push(...topics));
  client.on('state', ({ via }) => (globalThis.kept.via = via));
  const subscribed = new Promise((resolve) => client.on('subscribed', resolve));
  client.subscribe(topic);
  await client.connect();
  await subscribed;
}
