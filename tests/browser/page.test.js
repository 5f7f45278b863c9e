import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Tab } from './support/browser.js';
import { Proxy } from './support/proxy.js';
import { stage, withContext } from './support/stage.js';

const on = stage();

/** A person of their own for each test. */
function asPerson(user, run, { tokenArguments = [], ...options } = {}) {
  return withContext(on.browser, options, async (context) => run(context, await on.server.token(user, tokenArguments)));
}

test('a notification arrives live, with a toast', () =>
  asPerson('live', async (context, token) => {
    const tab = await Tab.open(context, on.server.url, token);
    await tab.state('live');
    assert.equal(new URL(tab.page.url()).hash, '', 'the token leaves the address bar');
    const title = '<img src=x onerror=alert(1)> & 库存预警';
    const id = await on.server.send({ to: { user: 'live' }, title, content: '鸡肉 5kg', kind: 'warning', priority: 'high' });
    const toast = tab.page.locator(`.toast[data-id="${id}"]`);
    await toast.waitFor();
    assert.equal(await toast.locator('strong').textContent(), title, 'markup is text');
    await tab.shows(id);
    assert.equal(await tab.item(id).getAttribute('data-kind'), 'warning');
    assert.match(await tab.item(id).textContent(), /high/);
    await tab.unread(1);
    await tab.sawExactly([id]);
  }));

test('what was sent while the page was closed is in the inbox', () =>
  asPerson('away', async (context, token) => {
    const first = await Tab.open(context, on.server.url, token);
    await first.state('live');
    await first.page.close();
    const id = await on.server.send({ to: { user: 'away' }, title: 'While you were away', content: 'It waited.' });
    const second = await Tab.open(context, on.server.url, token);
    await second.shows(id);
    await second.unread(1);
    assert.deepEqual(await second.ids(), [id]);
    second.sound();
  }));

test('two tabs agree on what is read and what is deleted', () =>
  asPerson('tabs', async (context, token) => {
    const [one, two] = [await Tab.open(context, on.server.url, token), await Tab.open(context, on.server.url, token)];
    await Promise.all([one.state('live'), two.state('live')]);
    const ids = [];
    for (const n of [1, 2, 3]) ids.push(await on.server.send({ to: { user: 'tabs' }, title: `Number ${n}`, content: 'x' }));
    for (const tab of [one, two]) {
      for (const id of ids) await tab.shows(id);
      await tab.unread(3);
    }
    await one.item(ids[0]).locator('.mark-read').click();
    await two.page.locator(`#list [data-id="${ids[0]}"][data-read="true"]`).waitFor();
    await Promise.all([one.unread(2), two.unread(2)]);
    await two.item(ids[1]).locator('.delete').click();
    await one.item(ids[1]).waitFor({ state: 'detached' });
    await Promise.all([one.unread(1), two.unread(1)]);
    await one.page.locator('#read-all').click();
    await two.page.locator(`#list [data-id="${ids[2]}"][data-read="true"]`).waitFor();
    await Promise.all([one.unread(0), two.unread(0)]);
    one.sound();
    two.sound();
  }));

test('what is put off or away leaves both tabs, and comes back', () =>
  asPerson('later', async (context, token) => {
    const [one, two] = [await Tab.open(context, on.server.url, token), await Tab.open(context, on.server.url, token)];
    await Promise.all([one.state('live'), two.state('live')]);
    const ids = [];
    for (const n of [1, 2]) ids.push(await on.server.send({ to: { user: 'later' }, title: `Number ${n}`, content: 'x' }));
    for (const tab of [one, two]) for (const id of ids) await tab.shows(id);
    for (const [at, button, back] of [[0, '.later', 'unsnooze'], [1, '.archive', 'unarchive']]) {
      await one.item(ids[at]).locator(button).click();
      for (const tab of [one, two]) await tab.item(ids[at]).waitFor({ state: 'detached' });
      await Promise.all([one.unread(1), two.unread(1)]);
      const answer = await fetch(`${on.server.url}/api/v1/notifications/${ids[at]}/${back}`, {
        method: 'PUT',
        headers: { Authorization: `Bearer ${token}` },
      });
      assert.equal(answer.status, 200);
      for (const tab of [one, two]) await tab.shows(ids[at]);
      await Promise.all([one.unread(2), two.unread(2)]);
    }
    one.sound();
    two.sound();
  }));

test('the socket is cut three times: polling, and back, with nothing missed or twice', () =>
  asPerson('cut', async (context, token) => {
    const proxy = await Proxy.start(on.server.port);
    try {
      const tab = await Tab.open(context, proxy.url, token);
      const ids = [];
      const send = async (title) => ids.push(await on.server.send({ to: { user: 'cut' }, title, content: 'x' }));
      const allShown = async () => {
        for (const id of ids) await tab.shows(id);
      };
      await tab.state('live');
      await send('live');
      await allShown();
      for (const cut of ['first', 'second']) {
        proxy.cut();
        await send(`during the ${cut} cut`);
        await allShown();
        await tab.state('live');
      }
      proxy.refusing = true;
      proxy.cut();
      await send('during the third cut');
      await tab.via('sse');
      await send('by an event stream');
      await allShown();
      await tab.state('live');
      proxy.heldPath = '/api/v1/sse';
      proxy.cutPath('/api/v1/sse');
      await send('while streams are kept back');
      await tab.state('polling', 40_000);
      assert.equal(proxy.webSockets, 0);
      await send('while polling');
      await send('while polling, again');
      await allShown();
      await tab.state('polling');
      proxy.refusing = false;
      await tab.state('live', 60_000);
      await send('live again');
      await allShown();
      await tab.unread(ids.length);
      await tab.sawExactly(ids);
      assert.ok(proxy.refused > 0);
    } finally {
      await proxy.stop();
    }
  }));

test('the form sends, and says what is wrong', () =>
  asPerson('form', async (context, token) => {
    const tab = await Tab.open(context, on.server.url, token);
    await tab.state('live');
    await tab.page.locator('#send').click();
    await tab.page.locator('#answer[data-result=failed]').waitFor();
    await tab.page.fill('#title', 'From the form');
    await tab.page.fill('#content', 'Hello');
    await tab.page.selectOption('#kind', 'success');
    await tab.page.locator('#send').click();
    await tab.page.locator('#answer[data-result=ok]').waitFor();
    await tab.page.locator('#list [data-kind=success]', { hasText: 'From the form' }).waitFor();
    await tab.page.selectOption('#template', 'inventory_low');
    await tab.page.fill('#variable-item_name', '鸡肉');
    await tab.page.locator('#send').click();
    await tab.page.locator('#answer[data-result=failed]', { hasText: 'current_stock' }).waitFor();
    await tab.page.fill('#variable-current_stock', '5');
    await tab.page.locator('#send').click();
    await tab.page.locator('#list li', { hasText: '商品 鸡肉 库存不足' }).waitFor();
    tab.sound();
  }));

test('a long inbox is loaded page by page; the unread alone on request', () =>
  asPerson('long', async (context, token) => {
    const ids = [];
    for (let n = 0; n < 25; n += 1) ids.push(await on.server.send({ to: { user: 'long' }, title: `Number ${n}`, content: 'x' }));
    const tab = await Tab.open(context, on.server.url, token);
    await tab.shows(ids[24]);
    assert.equal((await tab.ids()).length, 20);
    await tab.state('live');
    ids.push(await on.server.send({ to: { user: 'long' }, title: 'Number 25', content: 'x' }));
    await tab.shows(ids[25]);
    await tab.page.locator('#more').click();
    await tab.shows(ids[0]);
    assert.deepEqual(await tab.ids(), [...ids].reverse());
    await tab.item(ids[3]).locator('.mark-read').click();
    await tab.page.locator('[data-filter=unread]').click();
    await tab.item(ids[3]).waitFor({ state: 'detached' });
    assert.equal((await tab.ids()).length, 25);
    tab.sound();
  }));

test('a bad token is refused with a word, a good one can be pasted, and signing out forgets it', () =>
  asPerson('paste', async (context, token) => {
    const tab = await Tab.open(context, on.server.url, 'not-a-token');
    await tab.page.locator('#sign-in-problem').waitFor();
    await tab.page.fill('#token', `${token.slice(0, -6)}forged`);
    await tab.page.locator('#sign-in-form [type=submit]').click();
    await tab.page.locator('#sign-in-problem', { hasText: 'not accepted' }).waitFor();
    await tab.screenshot('sign-in');
    await tab.page.fill('#token', token);
    await tab.page.locator('#sign-in-form [type=submit]').click();
    await tab.state('live');
    assert.match(await tab.page.locator('#who').textContent(), /paste/);
    await tab.page.locator('#sign-out').click();
    await tab.page.locator('#sign-in-form').waitFor();
    await tab.page.reload();
    await tab.page.locator('#sign-in-form').waitFor();
    tab.sound();
  }));

test('it looks right: desktop and phone, light and dark', async () => {
  const samples = [
    { kind: 'info', priority: 'low', title: 'Welcome to Carillon', content: 'Notifications arrive here as they happen, and stay until you delete them.' },
    { kind: 'success', priority: 'normal', title: '支付成功', content: '您的订单 order-123 已支付成功，金额: ¥128.00' },
    { kind: 'warning', priority: 'high', title: '库存预警', content: '鸡肉库存不足,当前库存: 5kg,请及时补货' },
    { kind: 'error', priority: 'high', title: 'Backup failed', content: 'The nightly backup of node-7 ended with: no space left on device.\nLast good one: yesterday, 02:00.' },
    { kind: 'alert', priority: 'urgent', title: 'Temperature in cold store 12 above limit', content: '9.4 °C for six minutes' },
  ];
  const shapes = {
    desktop: { viewport: { width: 1280, height: 860 } },
    dark: { viewport: { width: 1280, height: 860 }, colorScheme: 'dark' },
    phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
    'phone-dark': { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: 'dark' },
  };
  for (const [name, shape] of Object.entries(shapes)) {
    const user = `looks-${name}`;
    const send = (sample) => on.server.send({ to: { user }, ...sample });
    const read = await send({ title: 'An older one, read', content: 'Nothing to do.', kind: 'info' });
    for (const sample of samples.slice(0, -1)) await send(sample);
    await asPerson(
      user,
      async (context, token) => {
        const tab = await Tab.open(context, on.server.url, token);
        await tab.state('live');
        await tab.item(read).locator('.mark-read').click();
        const alert = await send(samples.at(-1));
        await tab.page.locator(`.toast[data-id="${alert}"]`).waitFor();
        await tab.unread(samples.length);
        await tab.page.waitForFunction(() => document.getAnimations().every(({ animationName }) => animationName !== 'rise'));
        await tab.page.evaluate(() => scrollTo(0, 0));
        await tab.screenshot(name);
        assert.equal((await tab.ids())[0], alert, 'the newest is on top');
        const overflow = await tab.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${name} scrolls sideways by ${overflow} px`);
        if (name.startsWith('phone')) {
          await tab.page.locator('.toast .icon').click();
          await tab.page.locator('#views [data-view=sender]').click();
          await tab.screenshot(`${name}-sender`);
        }
        tab.sound();
      },
      { ...shape, tokenArguments: ['--role', 'manager'] },
    );
  }
});
