import { Acks } from './acks.js';
import { Backoff } from './backoff.js';
import { Pause, systemClock } from './clock.js';
import { Emitter } from './emitter.js';
import { CarillonError } from './errors.js';
import { Feed } from './feed.js';
import { Ladder } from './ladder.js';
import { Positions } from './positions.js';
import { instantOf, toNotification } from './protocol.js';
import { Rest } from './rest.js';
import { SeenIds } from './seen.js';
import { TokenSource } from './token.js';
import { UnreadCount } from './unread.js';

/** Catch up after this many live arrivals, so that the feed's cursor never falls further back than `SeenIds` reaches. */
const ARRIVALS_BEFORE_CATCH_UP = 500;
const SEEN_CAPACITY = 4_000;
/** When the `unread` frame after one's own action has not come by then, we ask. */
const UNREAD_FRAME_GRACE_MS = 1_000;

/**
 * A person's live inbox. The documentation of what is public stands in `index.d.ts`.
 */
export class CarillonClient {
  #emitter;
  #tokens;
  #rest;
  #feed;
  #ladder;
  #acks;
  #unread;
  #positions;
  #seen;
  #feedPause;
  #random;
  /** @type {Set<string>} explicit topics, by name */
  #topics = new Set();
  #life = new AbortController();
  #catching = false;
  #catchAgain = false;
  #arrivals = 0;

  /** @param {import('./index.js').ClientOptions} options */
  constructor(options) {
    const clock = options.clock ?? systemClock;
    const base = options.url ?? globalThis.location?.origin;
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!base) throw new CarillonError('configuration', 'outside a browser, `url` is needed');
    if (!WebSocket) throw new CarillonError('configuration', 'there is no WebSocket here: pass one');
    this.#random = options.random ?? Math.random;
    this.#emitter = new Emitter((error, event) => {
      if (event !== 'error') this.#report(new CarillonError('listener', `a listener of ${event} threw`, { cause: error }));
    });
    this.#tokens = new TokenSource(options.token, () => clock.now());
    const fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    this.#rest = new Rest({ base, tokens: this.#tokens, fetch, clock });
    this.#feed = new Feed({
      rest: this.#rest,
      apply: (change) => this.#applyChange(change),
      reload: () => this.#reload(),
      cursor: options.cursor,
    });
    this.#acks = new Acks({ clock, send: (ids) => this.#ladder.send({ type: 'ack', ids }) });
    this.#unread = new UnreadCount({
      clock,
      ask: () => this.#rest.unreadCount(),
      tell: (count) => this.#emitter.emit('unread', { count }),
    });
    this.#positions = new Positions(options.positions);
    this.#seen = new SeenIds(SEEN_CAPACITY);
    this.#feedPause = new Pause(clock);
    this.#ladder = new Ladder({
      clock,
      random: this.#random,
      tokens: this.#tokens,
      WebSocket,
      fetch,
      base: base.replace(/\/+$/, ''),
      wakeUps: options.wakeUps ?? globalThis,
      timing: options.timing,
      pull: (waitS, signal) => this.#pull(waitS, signal),
      wish: () => this.#wish(),
      onUp: () => this.#onUp(),
      onFrame: (frame) => this.#onFrame(frame),
      onPositions: (positions) => this.#positions.replaceAll(positions),
      onUnsent: (ids) => ids.forEach((id) => this.#acks.add(id)),
      onDown: () => this.#positions.disconnected(),
      onState: (state) => this.#emitter.emit('state', state),
      onError: (error) => this.#report(error),
      onClosed: () => this.#stop(),
    });
  }

  get api() {
    return this.#rest;
  }

  get state() {
    return this.#ladder.state;
  }

  snapshot() {
    return { positions: this.#positions.all(), cursor: this.#feed.cursor };
  }

  /**
   * @param {any} event
   * @param {(value: any) => void} listener
   */
  on(event, listener) {
    return this.#emitter.on(event, listener);
  }

  async connect() {
    if (this.#life.signal.aborted) this.#life = new AbortController();
    const ready = this.#ladder.start();
    // Beside the socket, not after it: the list shall not wait for a WebSocket that a proxy swallows.
    this.#catchUp();
    await ready;
  }

  close() {
    this.#acks.flush();
    this.#ladder.close();
  }

  /** @param {string} topic */
  subscribe(topic) {
    this.#topics.add(topic);
    this.#ladder.send({ type: 'subscribe', topic });
  }

  /** @param {string} topic */
  unsubscribe(topic) {
    this.#topics.delete(topic);
    this.#positions.forget(`topic:${topic}`);
    this.#ladder.send({ type: 'unsubscribe', topic });
  }

  /** @param {string[]} ids */
  async markRead(ids) {
    await this.#change(() => this.#rest.markRead(ids), { ids, state: 'read', source: 'own' });
  }

  async markAllRead() {
    await this.#change(() => this.#rest.markAllRead(), { all: true, state: 'read', source: 'own' });
  }

  /** @param {string} id */
  async remove(id) {
    await this.#change(() => this.#rest.remove(id), { ids: [id], state: 'deleted', source: 'own' });
  }

  /** @param {string} id */
  async archive(id) {
    await this.#change(() => this.#rest.archive(id), { ids: [id], state: 'archived', source: 'own' });
  }

  /**
   * @param {string} id
   * @param {number} seconds
   */
  async snooze(id, seconds) {
    await this.#change(() => this.#rest.snooze(id, seconds), { ids: [id], state: 'snoozed', source: 'own' });
  }

  /**
   * @param {() => Promise<void>} act
   * @param {import('./index.js').Changed} changed what it brings about
   */
  async #change(act, changed) {
    const { told } = this.#unread;
    await act();
    this.#catchAgain = true;
    this.#emitter.emit('changed', changed);
    // Where live, an `unread` frame follows one's own action, and may overtake its answer.
    if (this.state !== 'live') this.#unread.refresh();
    else if (told === this.#unread.told) this.#unread.refresh(UNREAD_FRAME_GRACE_MS);
  }

  /** Whether positions come by themselves and requests carry them, as below the socket. */
  get #carried() {
    return this.#ladder.via !== 'websocket';
  }

  /** What a request says that a socket's client would say by commands. */
  #wish() {
    const known = Object.entries(this.#positions.all());
    // A position of an explicit topic would subscribe to it.
    const wanted = known.filter(([topic]) => !topic.startsWith('topic:') || this.#topics.has(topic.slice('topic:'.length)));
    return { topics: [...this.#topics], positions: Object.fromEntries(wanted) };
  }

  #onUp() {
    this.#acks.flush();
    this.#catchUp();
  }

  /** @param {Record<string, any>} frame */
  #onFrame(frame) {
    switch (frame.type) {
      case 'welcome':
        if (this.#carried) return; // The request has said all that follows.
        return this.#onWelcome(frame);
      case 'notification':
      case 'message':
        return this.#onDelivery(frame);
      case 'unread':
        return this.#unread.set(Number(frame.count));
      case 'changed':
        // A page of the feed that is under way may be older than this: read on after it.
        this.#catchAgain = true;
        return this.#emitter.emit('changed', {
          ...(frame.all === true ? { all: true, until: untilOf(frame) } : { ids: frame.ids ?? [] }),
          state: frame.state,
          source: 'live',
        });
      case 'subscribed':
        return this.#onSubscribed(frame);
      case 'unsubscribed':
        return this.#emitter.emit('unsubscribed', { topic: frame.topic });
      case 'recovered':
        if (this.#carried) return;
        return this.#positions.recovered(frame.positions ?? {});
      case 'gap':
        return this.#onGap(frame);
      case 'resync':
        return this.#onResync(frame);
      case 'pong':
        return this.#advanceAll(frame.positions);
      case 'expiring':
        return void this.#refreshToken();
      case 'error':
        this.#ladder.hint(frame.retry_after_ms);
        return this.#report(
          new CarillonError(String(frame.code ?? 'error'), String(frame.message ?? ''), {
            retryAfterMs: frame.retry_after_ms,
          }),
        );
      default: // A frame of a later hub.
    }
  }

  /** @param {Record<string, any>} frame */
  #onWelcome(frame) {
    /** @type {Record<string, string>} */
    const heads = frame.positions ?? {};
    const known = Object.keys(this.#wish().positions);
    for (const [topic, head] of Object.entries(heads)) {
      if (!this.#positions.has(topic)) this.#positions.advance(topic, head);
    }
    // A resume subscribes to the explicit topics in it. A `subscribe` first would let live frames go before the replay.
    this.#resume(known);
    for (const topic of this.#topics) {
      if (!this.#positions.has(`topic:${topic}`)) this.#ladder.send({ type: 'subscribe', topic });
    }
    this.#onUp();
  }

  /** @param {Iterable<string>} topics */
  #resume(topics) {
    const positions = this.#positions.beginResume(topics);
    if (Object.keys(positions).length > 0) this.#ladder.send({ type: 'resume', positions });
  }

  /** @param {Record<string, any>} frame */
  #onSubscribed(frame) {
    const topic = String(frame.topic);
    if (this.#carried) return this.#emitter.emit('subscribed', { topic });
    if (this.#positions.resuming(topic)) {
      // The hub's word on the way to the replay.
    } else if (this.#positions.has(topic)) this.#resume([topic]);
    else if (typeof frame.position === 'string') this.#positions.advance(topic, frame.position);
    this.#emitter.emit('subscribed', { topic });
  }

  /** @param {Record<string, any>} frame */
  #onDelivery(frame) {
    const id = String(frame.id);
    if (this.#seen.add(id)) {
      if (frame.type === 'notification') this.#arrived(toNotification(frame), 'live');
      else this.#emitter.emit('message', { id, data: frame.data, topic: frame.topic, position: frame.position });
    }
    // Only now, and for a repeat too: whatever stands before this position has been handed over.
    if (!this.#carried && frame.topic && frame.position) this.#positions.advance(frame.topic, frame.position);
    if (frame.receipt === true) this.#acks.add(id);
  }

  /**
   * @param {import('./index.js').Notification} notification
   * @param {'live' | 'feed'} source
   */
  #arrived(notification, source) {
    this.#emitter.emit('notification', { ...notification, source });
    if (source === 'feed') return this.#unread.refresh();
    if (!notification.is_read) this.#unread.arrived();
    this.#arrivals += 1;
    if (this.#arrivals >= ARRIVALS_BEFORE_CATCH_UP) this.#catchUp();
  }

  /** @param {Record<string, any>} frame */
  #onGap(frame) {
    if (typeof frame.position !== 'string') return this.#onResync({ topics: [frame.topic] });
    this.#positions.rewind(frame.topic, frame.position);
    if (this.#carried) this.#ladder.send({ type: 'resume' });
    else this.#resume([frame.topic]);
  }

  /** @param {Record<string, any>} frame */
  #onResync(frame) {
    /** @type {string[]} */
    const topics = frame.topics ?? [];
    for (const topic of topics) this.#positions.lost(topic);
    this.#emitter.emit('resync', { inbox: false, topics });
    this.#catchAgain = true;
    this.#catchUp();
  }

  /** @param {Record<string, string> | undefined} positions */
  #advanceAll(positions) {
    for (const [topic, position] of Object.entries(positions ?? {})) this.#positions.advance(topic, position);
  }

  async #refreshToken() {
    if (!this.#tokens.renewable) return;
    try {
      const token = await this.#tokens.renew();
      if (token !== null) this.#ladder.send({ type: 'refresh', token });
    } catch (error) {
      this.#report(new CarillonError('token', 'no new token could be had', { cause: error }));
    }
  }

  /** @param {Record<string, any>} change one entry of the feed */
  #applyChange(change) {
    const id = change.id === undefined ? undefined : String(change.id);
    if (change.op === 'read_all') {
      this.#emitter.emit('changed', { all: true, until: untilOf(change), state: 'read', source: 'feed' });
    } else if (id === undefined) {
      // An entry of a later server.
    } else if (change.op === 'upsert') {
      const notification = toNotification(change.notification ?? change);
      if (this.#seen.add(id)) this.#arrived(notification, 'feed');
      else this.#emitter.emit('changed', { ids: [id], state: 'updated', notification, source: 'feed' });
    } else if (change.op === 'delete') {
      this.#emitter.emit('changed', { ids: [id], state: 'deleted', source: 'feed' });
    } else if (change.op === 'state') {
      const place = change.archived_at ? 'archived' : change.snoozed_until ? 'snoozed' : undefined;
      const state = place ?? (change.is_read ? 'read' : 'unread');
      this.#emitter.emit('changed', { ids: [id], state, source: 'feed' });
    }
  }

  #reload() {
    this.#emitter.emit('resync', { inbox: true, topics: [] });
    this.#unread.refresh();
  }

  /**
   * @param {number} waitS
   * @param {AbortSignal} signal
   */
  async #pull(waitS, signal) {
    const page = await this.#feed.pull({ waitS, signal });
    if (page.count > 0) this.#unread.refresh();
    return page;
  }

  /** Reads the feed to its end. Calls while it runs make it read once more. */
  #catchUp() {
    this.#catchAgain = true;
    if (!this.#catching) void this.#readFeed(this.#life.signal);
  }

  /** @param {AbortSignal} signal */
  async #readFeed(signal) {
    const backoff = new Backoff({ random: this.#random });
    this.#catching = true;
    try {
      while (this.#catchAgain && !signal.aborted) {
        this.#catchAgain = false;
        this.#arrivals = 0;
        try {
          while ((await this.#pull(0, signal)).more);
          backoff.reset();
        } catch (error) {
          if (signal.aborted || this.#ladder.refused(error)) return;
          // The last rung reads the same feed, and any other comes back here when it is up.
          if (this.#ladder.via === undefined || this.#ladder.via === 'inbox') return;
          this.#report(error);
          this.#catchAgain = true;
          const hintMs = error instanceof CarillonError ? error.retryAfterMs : undefined;
          await this.#feedPause.sleep(backoff.next({ hintMs }), signal);
        }
      }
    } finally {
      // In the same turn as the last look at `#catchAgain`, so that no call falls between the two.
      this.#catching = false;
    }
  }

  /** @param {unknown} error */
  #report(error) {
    const known =
      error instanceof CarillonError ? error : new CarillonError('internal', String(error), { cause: error });
    this.#emitter.emit('error', known);
  }

  #stop() {
    this.#life.abort();
    this.#acks.stop();
    this.#unread.stop();
  }
}

/**
 * Up to when `all` reaches, where the server says it.
 * @param {Record<string, any>} change
 * @returns {number | undefined} Unix seconds
 */
function untilOf({ at }) {
  return typeof at === 'string' ? (instantOf(at) ?? undefined) : undefined;
}
