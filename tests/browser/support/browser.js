import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const OUT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../out');

export async function launch() {
  return await chromium.launch({
    executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

/** Carillon's page in a tab, as a person and a test see it. */
export class Tab {
  /** What went wrong in the page: any entry fails the test. */
  errors = [];

  /**
   * @param {import('playwright-core').BrowserContext} context
   * @param {string} url
   * @param {string} token
   */
  static async open(context, url, token) {
    const tab = new Tab();
    tab.page = await context.newPage();
    tab.page.on('pageerror', (error) => tab.errors.push(String(error)));
    tab.page.on('console', (message) => {
      if (/Content Security Policy/i.test(message.text())) tab.errors.push(message.text());
    });
    await tab.page.addInitScript(recordToasts);
    await tab.page.goto(`${url}/#token=${token}`);
    return tab;
  }

  item(id) {
    return this.page.locator(`#list [data-id="${id}"]`);
  }

  /** @param {string} state @param {number} [timeout] milliseconds */
  async state(state, timeout = 15_000) {
    await this.page.locator(`#pill[data-state="${state}"]`).waitFor({ timeout });
  }

  /** @param {string} transport @param {number} [timeout] milliseconds */
  async via(transport, timeout = 20_000) {
    await this.page.locator(`#pill[data-via="${transport}"]`).waitFor({ timeout });
  }

  /** @param {string} id @param {number} [timeout] milliseconds */
  async shows(id, timeout = 10_000) {
    await this.item(id).waitFor({ timeout });
  }

  /** @param {number} count */
  async unread(count) {
    await this.page.locator(`#unread[data-count="${count}"]`).waitFor({ state: 'attached', timeout: 10_000 });
  }

  /** The ids in the list, from above. */
  async ids() {
    return await this.page.locator('#list > li').evaluateAll((items) => items.map((item) => item.dataset.id));
  }

  /** The ids that had a toast, in order, also those whose toast is gone. */
  async toasted() {
    return await this.page.evaluate(() => globalThis.toasted);
  }

  async screenshot(name) {
    await mkdir(OUT, { recursive: true });
    await this.page.screenshot({ path: path.join(OUT, `${name}.png`) });
  }

  /** Nothing missed, nothing twice, nothing broken. */
  async sawExactly(ids) {
    assert.deepEqual((await this.ids()).sort(), [...ids].sort(), 'the list');
    assert.deepEqual((await this.toasted()).sort(), [...ids].sort(), 'the toasts');
    this.sound();
  }

  sound() {
    assert.deepEqual(this.errors, []);
  }
}

/** Runs in the page before its own scripts. */
function recordToasts() {
  globalThis.toasted = [];
  document.addEventListener('DOMContentLoaded', () => {
    const observer = new MutationObserver((records) => {
      for (const { addedNodes } of records) {
        for (const node of addedNodes) if (node.dataset?.id) globalThis.toasted.push(node.dataset.id);
      }
    });
    observer.observe(document.getElementById('toasts'), { childList: true });
  });
}
