/** Compiled, never run: the hand-written types say what the code does, and an application can use them. */
import * as declared from '../src/index.js';
import { CarillonClient as Client } from '../src/client.js';
import { CarillonError } from '../src/errors.js';
import * as protocol from '../src/protocol.js';
import * as token from '../src/token.js';

export const client: typeof declared.CarillonClient = Client;
export const error: typeof declared.CarillonError = CarillonError;
export const claimsOf: typeof declared.claimsOf = token.claimsOf;
export const expiryOf: typeof declared.expiryOf = token.expiryOf;
export const names: readonly (keyof typeof declared)[] = [
  'CarillonClient',
  'CarillonError',
  'SUBPROTOCOL',
  'CloseCode',
  'claimsOf',
  'expiryOf',
];
export const codes: Record<keyof typeof declared.CloseCode, number> = protocol.CloseCode;

export function application(inbox: declared.CarillonClient): () => void {
  inbox.on('notification', (notification) => notification.title.toUpperCase());
  inbox.on('changed', ({ ids, state }) => `${ids?.length ?? 0} ${state}`);
  // @ts-expect-error there is no such event
  inbox.on('notified', () => undefined);
  // @ts-expect-error a list of ids, not one
  void inbox.markRead('n1');
  return inbox.on('state', ({ state, retryInMs }) => `${state} ${retryInMs ?? 0}`);
}
