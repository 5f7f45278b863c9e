/** Carillon's client: a person's live inbox, over WebSocket, with other ways where WebSocket does not work. */

/** Where a client is on its ladder of transports. */
export type StateName = 'connecting' | 'live' | 'polling' | 'offline' | 'closed';

/** The way in use: frames by `websocket`, by `sse` (an event stream) or by `poll`; or the `inbox` alone, asked now and then. */
export type Transport = 'websocket' | 'sse' | 'poll' | 'inbox';

export interface State {
  /** `live`: by WebSocket or event stream; `polling`: by long polls or the inbox. */
  state: StateName;
  previous: StateName;
  via: Transport | undefined;
  /** WebSocket tries that failed in a row. */
  failures: number;
  /** When `connecting`: milliseconds until the next try. */
  retryInMs?: number | undefined;
}

/** One shape, whichever way the notification came. */
export interface Notification {
  id: string;
  title: string;
  content: string;
  /** `info`, `success`, `warning`, `error`, `alert`. */
  kind: string;
  /** As the sender gave it. */
  priority: string;
  metadata: any;
  /** RFC 3339. */
  created_at: string | null;
  /** Unix seconds. */
  timestamp: number | null;
  is_read: boolean;
  read_at: string | null;
  /** The topic of a live frame, such as `user` or `role:manager`. */
  topic: string | null;
  /** What the server sent. */
  raw: Record<string, any>;
}

export interface ArrivedNotification extends Notification {
  /** `live`: a frame; `feed`: found in the change feed, when polling or catching up. */
  source: 'live' | 'feed';
}

/** An ephemeral message of the publish API. */
export interface Message {
  id: string;
  data: any;
  topic: string;
  position?: string;
}

/** What became of notifications already known; of all of them where `all` is true. */
export interface Changed {
  ids?: string[];
  all?: boolean;
  /** With `all`: only those up to then, Unix seconds; where the server says it. */
  until?: number | undefined;
  /** `read`, `unread`, `deleted`, `archived`, `snoozed`, `unsnoozed`, …; `updated`: only what it says. */
  state: string;
  /** Its newest form, where the server sent it. */
  notification?: Notification | undefined;
  /** `own`: this client did it; `live`: a frame; `feed`: the change feed. */
  source: 'own' | 'live' | 'feed';
}

/** The client cannot know what happened meanwhile. */
export interface Resync {
  /** True: load the list again. (The client has taken a new cursor before it says so.) */
  inbox: boolean;
  /** Topics whose live messages were lost. */
  topics: string[];
}

export interface Events {
  /** Once for each id. */
  notification: ArrivedNotification;
  /** Once for each id. */
  message: Message;
  unread: { count: number };
  changed: Changed;
  state: State;
  resync: Resync;
  subscribed: { topic: string };
  unsubscribed: { topic: string };
  error: CarillonError;
}

export interface Clock {
  /** Unix milliseconds. */
  now(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: any): void;
}

export interface ClientOptions {
  /** The token, or who gives one: asked at first, when it ran out and when it was refused. Null: signed out. */
  token: string | (() => string | null | Promise<string | null>);
  /** Such as `https://push.example.org`; in a browser by default the page's origin. */
  url?: string;
  /** Outside a browser: a class with the standard's shape, such as that of the package `ws`. */
  WebSocket?: any;
  fetch?: typeof globalThis.fetch;
  /** From an earlier `snapshot()`: go on from there. */
  positions?: Record<string, string>;
  cursor?: string | undefined;
  clock?: Clock;
  /** Evenly from 0 to 1. */
  random?: () => number;
  /** Where `online` and `visibilitychange` are heard; by default the window. */
  wakeUps?: object;
  /** Milliseconds. */
  timing?: Partial<{
    openTimeoutMs: number;
    pingEveryMs: number;
    pongTimeoutMs: number;
    backoffBaseMs: number;
    backoffCapMs: number;
  }>;
}

/** The HTTP API, with the client's token. Every call rejects with a `CarillonError`. */
export interface Api {
  list(query?: { isRead?: boolean; limit?: number; offset?: number }): Promise<Notification[]>;
  unreadCount(): Promise<number>;
  /** Body: see the API's documentation (`to`, `title`, `content`, `kind`, `priority`, `channels`, …). */
  send(notification: Record<string, any>): Promise<any>;
  templates(): Promise<Record<string, any>>;
  request(
    method: string,
    path: string,
    options?: { body?: unknown; signal?: AbortSignal; timeoutMs?: number },
  ): Promise<any>;
}

export class CarillonClient {
  constructor(options: ClientOptions);
  readonly api: Api;
  readonly state: StateName;
  /** Begins; resolves when news can arrive, rejects when the client had to give up. Not needed to be awaited. */
  connect(): Promise<void>;
  /** Ends for good, until `connect` is called again. */
  close(): void;
  /** Resumed after each reconnect, by whatever way but the inbox alone, which brings no messages. */
  subscribe(topic: string): void;
  unsubscribe(topic: string): void;
  /** Resolves when the server has stored it. */
  markRead(ids: string[]): Promise<void>;
  markAllRead(): Promise<void>;
  /** Deletes a notification for this reader. */
  remove(id: string): Promise<void>;
  /** Puts a notification away. */
  archive(id: string): Promise<void>;
  /** Puts a notification off for so many seconds: then it is back by itself, which `changed` tells with `unsnoozed`. */
  snooze(id: string, seconds: number): Promise<void>;
  /** Answers the function that ends the subscription. */
  on<E extends keyof Events>(event: E, listener: (value: Events[E]) => void): () => void;
  /** How far everything was handed over, for a later `ClientOptions`. */
  snapshot(): { positions: Record<string, string>; cursor: string | undefined };
}

export class CarillonError extends Error {
  constructor(
    code: string,
    message: string,
    more?: { status?: number; field?: string; retryAfterMs?: number; terminal?: boolean; cause?: unknown },
  );
  /** Stable; the API's own `code` where it gave one. */
  readonly code: string;
  /** The HTTP status, where there was one. */
  readonly status: number | undefined;
  /** The field of the request that is wrong. */
  readonly field: string | undefined;
  readonly retryAfterMs: number | undefined;
  /** True: the client has given up. */
  readonly terminal: boolean;
}

export const SUBPROTOCOL: 'carillon.v1';

export const CloseCode: Readonly<{
  NORMAL: 1000;
  PROTOCOL: 1002;
  UNSUPPORTED: 1003;
  NOT_UTF8: 1007;
  TOO_BIG: 1009;
  RESTART: 1012;
  UNAVAILABLE: 1013;
  TOKEN_EXPIRED: 4001;
  TOKEN_INVALID: 4002;
  DISCONNECTED: 4003;
  RATE_LIMITED: 4007;
  SLOW_CONSUMER: 4008;
  HEARTBEAT_LOST: 4009;
}>;

/** The claims of a JWT, unverified: to show whose it is, not to trust it. */
export function claimsOf(token: string): Record<string, any> | undefined;
/** The `exp` of a JWT in Unix milliseconds, unverified. */
export function expiryOf(token: string): number | undefined;
