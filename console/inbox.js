import { byId, say } from './dom.js';
import { Item } from './item.js';

const PAGE = 20;
/** The most that one call gives. */
const LARGEST_PAGE = 100;
const TICK_MS = 30_000;
const RETRY_MS = 5_000;
/** How long `Later` puts off. */
const LATER_S = 3_600;
/** When news overtakes an answer so often, it is merged as it is. */
const RELOADS_AT_MOST = 3;

/** The list. Keyed by id, so that nothing stands in it twice whichever way it came. */
export class Inbox {
  /** @type {Map<string, Item>} */
  #items = new Map();
  /** Ids that the server's list or feed named: only they count as places in its list. @type {Set<string>} */
  #stored = new Set();
  /** @type {'all' | 'unread'} */
  #filter = 'all';
  #ended = { all: false, unread: false };
  /** Grows with each change from outside, so that an answer which one overtook is asked for again. */
  #version = 0;
  #loaded = false;
  /** @type {number | undefined} */
  #retry;
  #list = byId('list');
  #more = byId('more');
  #client;
  #toasts;
  #timer;

  /**
   * @param {import('/client/index.js').CarillonClient} client
   * @param {import('./toasts.js').Toasts} toasts
   */
  constructor(client, toasts) {
    this.#client = client;
    this.#toasts = toasts;
    client.on('notification', (notification) => this.#arrived(notification));
    client.on('changed', (changed) => this.#changed(changed));
    client.on('resync', ({ inbox }) => inbox && this.reload());
    this.#more.onclick = () => this.#loadMore();
    byId('read-all').onclick = () => this.#try(() => client.markAllRead());
    for (const button of document.querySelectorAll('[data-filter]')) {
      button.onclick = () => this.#show(button.dataset.filter);
    }
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#show('all', false);
  }

  /** Makes room for another person's inbox. */
  clear() {
    clearInterval(this.#timer);
    clearTimeout(this.#retry);
    this.#items.clear();
    this.#list.replaceChildren();
  }

  /** What the server has now, as far down as was shown. */
  async reload() {
    clearTimeout(this.#retry);
    const limit = Math.min(Math.max(PAGE, this.#items.size), LARGEST_PAGE);
    try {
      for (let round = 1; ; round += 1) {
        const version = this.#version;
        const page = await this.#client.api.list({ limit });
        if (version === this.#version) this.#items.clear();
        else if (round < RELOADS_AT_MOST) continue;
        this.#stored.clear();
        this.#ended = { all: page.length < limit, unread: page.length < limit };
        for (const notification of page) this.#put(notification, true);
        break;
      }
      say(byId('inbox-problem'), '');
      this.#loaded = true;
      this.#render();
    } catch (error) {
      if (this.#client.state === 'closed') return;
      say(byId('inbox-problem'), `The list could not be loaded: ${error.message}`);
      this.#retry = setTimeout(() => this.reload(), RETRY_MS);
    }
  }

  /** @param {import('/client/index.js').ArrivedNotification} notification */
  #arrived(notification) {
    this.#version += 1;
    this.#put(notification, notification.source === 'feed');
    this.#render();
    // Also where a list that was on its way has brought it already: it is news all the same.
    if (!notification.is_read) this.#toasts.arrived(notification);
  }

  /** @param {import('/client/index.js').Changed} changed */
  #changed({ ids, all, until = Number.POSITIVE_INFINITY, state, source, notification }) {
    this.#version += 1;
    // Of what lies below the part that is shown, nothing is shown now either.
    if (notification && this.#items.has(notification.id)) this.#put(notification, true);
    const concerned = all
      ? [...this.#items.values()].map((item) => item.notification).filter(({ timestamp }) => (timestamp ?? 0) <= until)
      : (ids ?? []).map((id) => ({ id }));
    for (const { id } of concerned) this.#changeOne(id, state);
    this.#render();
    // Only the server knows what came back. The feed says no more than how it is now.
    const isBack = state === 'unarchived' || state === 'unsnoozed';
    const mayBeBack = source === 'feed' && (state === 'read' || state === 'unread') && ids?.some((id) => !this.#items.has(id));
    if (isBack || mayBeBack) void this.reload();
  }

  /**
   * @param {string} id
   * @param {string} state
   */
  #changeOne(id, state) {
    const item = this.#items.get(id);
    if (!item) return;
    if (state === 'deleted' || state === 'archived' || state === 'snoozed' || state === 'withdrawn') {
      this.#items.delete(id);
      this.#stored.delete(id);
    } else if (state === 'read' || state === 'unread') {
      item.update({ ...item.notification, is_read: state === 'read' });
    }
  }

  /**
   * @param {import('/client/index.js').Notification} notification
   * @param {boolean} stored
   */
  #put(notification, stored) {
    if (stored) this.#stored.add(notification.id);
    const item = this.#items.get(notification.id);
    if (item) item.update(notification);
    else this.#items.set(notification.id, new Item(notification, this.#actions));
  }

  #actions = {
    read: (/** @type {string} */ id) => this.#act(id, 'read', () => this.#client.markRead([id])),
    later: (/** @type {string} */ id) => this.#act(id, 'snoozed', () => this.#client.snooze(id, LATER_S)),
    archive: (/** @type {string} */ id) => this.#act(id, 'archived', () => this.#client.archive(id)),
    remove: (/** @type {string} */ id) => this.#act(id, 'deleted', () => this.#client.remove(id)),
  };

  /**
   * @param {string} id
   * @param {string} state
   * @param {() => Promise<void>} act
   */
  #act(id, state, act) {
    return this.#try(act, () => this.#changed({ ids: [id], state, source: 'own' }));
  }

  /**
   * @param {() => Promise<void>} act
   * @param {() => void} [gone] what to do where the server has no such notification (it was live only, or is deleted)
   */
  async #try(act, gone) {
    try {
      await act();
    } catch (error) {
      if (error.status === 404 && gone) gone();
      else this.#toasts.failed(error.message);
    }
  }

  /**
   * @param {'all' | 'unread'} filter
   * @param {boolean} [fill] load a page where there is room for it
   */
  #show(filter, fill = true) {
    this.#filter = filter;
    for (const button of document.querySelectorAll('[data-filter]')) {
      button.setAttribute('aria-pressed', String(button.dataset.filter === filter));
    }
    this.#render();
    if (fill && this.#shown().length < PAGE && !this.#ended[filter]) void this.#loadMore();
  }

  /** The next page that holds something new: arrivals have moved the server's list, so pages overlap with ours. */
  async #loadMore() {
    const filter = this.#filter;
    this.#more.disabled = true;
    try {
      let offset = this.#matching(filter).filter(({ notification }) => this.#stored.has(notification.id)).length;
      for (let fresh = 0; fresh === 0 && !this.#ended[filter]; ) {
        const page = await this.#client.api.list({ limit: PAGE, offset, ...(filter === 'unread' ? { isRead: false } : {}) });
        fresh = page.filter(({ id }) => !this.#items.has(id)).length;
        for (const notification of page) this.#put(notification, true);
        this.#ended[filter] = page.length < PAGE;
        offset += page.length;
      }
    } catch (error) {
      this.#toasts.failed(error.message);
    }
    this.#more.disabled = false;
    this.#render();
  }

  /** @param {'all' | 'unread'} filter */
  #matching(filter) {
    return [...this.#items.values()].filter((item) => filter === 'all' || !item.notification.is_read);
  }

  #shown() {
    return this.#matching(this.#filter).sort(newestFirst);
  }

  /** Moves only what is out of place, so that focus and selection stay where they are. */
  #render() {
    const shown = this.#shown();
    const wanted = new Set(shown.map(({ element }) => element));
    for (const element of [...this.#list.children]) if (!wanted.has(element)) element.remove();
    shown.forEach(({ element }, index) => {
      const there = this.#list.children[index];
      if (there !== element) this.#list.insertBefore(element, there ?? null);
    });
    this.#more.hidden = this.#ended[this.#filter] || shown.length === 0;
    say(byId('empty'), shown.length === 0 ? this.#emptyText() : '');
  }

  #emptyText() {
    if (!this.#loaded) return 'Loading…';
    return this.#filter === 'unread' ? 'Nothing unread.' : 'Nothing here yet. What is sent to you appears by itself.';
  }

  #tick() {
    for (const item of this.#items.values()) item.tick();
  }
}

/**
 * @param {Item} a
 * @param {Item} b
 */
function newestFirst({ notification: a }, { notification: b }) {
  const byTime = (b.timestamp ?? 0) - (a.timestamp ?? 0);
  return byTime || (a.id < b.id ? 1 : -1);
}
