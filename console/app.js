import { CarillonClient, claimsOf, expiryOf } from '/client/index.js';
import { byId, say } from './dom.js';
import { Inbox } from './inbox.js';
import { Sender } from './sender.js';
import { Toasts } from './toasts.js';
import { forgetToken, storedToken, storeToken } from './token.js';

const toasts = new Toasts();
/** @type {{ client: CarillonClient, inbox: Inbox } | undefined} the one who is signed in */
let current;

/** @param {string} [problem] why one has to sign in again */
function askForToken(problem = '') {
  current?.inbox.clear();
  current = undefined;
  showSignedIn(false);
  showUnread(0);
  say(byId('sign-in-problem'), problem);
  byId('token').value = '';
  byId('token').focus();
}

/** @param {boolean} signedIn */
function showSignedIn(signedIn) {
  byId('sign-in').hidden = signedIn;
  for (const id of ['app', 'session', 'views']) byId(id).hidden = !signedIn;
}

/** @param {string} token */
function open(token) {
  const claims = claimsOf(token);
  if (!claims) {
    forgetToken();
    return askForToken('This is not a token: it should be three groups of letters with dots between them.');
  }
  const client = new CarillonClient({ token });
  showSignedIn(true);
  showWho(claims, token);
  let wasLive = false;
  client.on('state', ({ state, via }) => {
    showState(state, wasLive, via);
    wasLive ||= state === 'live';
  });
  client.on('unread', ({ count }) => showUnread(count));
  client.on('error', (error) => {
    if (!error.terminal || current?.client !== client) return;
    const refused = error.status === 401 || error.code === 'unauthorized';
    if (refused) forgetToken();
    askForToken(refused ? `The token was not accepted: ${error.message}` : `The server ended this session: ${error.message}`);
  });
  current = { client, inbox: new Inbox(client, toasts) };
  new Sender(client, String(claims.sub ?? ''));
  // What goes wrong comes as the events `state` and `error`.
  client.connect().catch(() => undefined);
}

/**
 * @param {Record<string, any>} claims
 * @param {string} token
 */
function showWho(claims, token) {
  const roles = [claims.roles ?? []].flat();
  const expiry = expiryOf(token);
  byId('who').textContent = [claims.sub, claims.tenant_id].filter(Boolean).join(' @ ');
  byId('who').title = [
    roles.length > 0 ? `Roles: ${roles.join(', ')}` : '',
    expiry ? `Token good until ${new Date(expiry).toLocaleString()}` : '',
  ]
    .filter(Boolean)
    .join('\n');
}

/**
 * @param {string} state
 * @param {boolean} wasLive
 * @param {string | undefined} via the transport in use
 */
function showState(state, wasLive, via) {
  const words = {
    connecting: wasLive ? 'Reconnecting…' : 'Connecting…',
    live: 'Live',
    polling: 'Polling',
    offline: 'Offline',
    closed: 'Closed',
  };
  const pill = byId('pill');
  pill.dataset.state = state;
  pill.dataset.via = via ?? '';
  pill.textContent = words[state] ?? state;
}

/** @param {number} count */
function showUnread(count) {
  const badge = byId('unread');
  badge.dataset.count = String(count);
  badge.textContent = count > 99 ? '99+' : String(count);
  badge.hidden = count === 0;
  byId('bell').setAttribute('aria-label', count === 0 ? 'No unread notifications' : `${count} unread notifications`);
  document.title = count === 0 ? 'Carillon' : `(${count}) Carillon`;
}

/** @param {string} view on a phone, one of the two columns is shown */
function showView(view) {
  document.body.dataset.view = view;
  for (const button of byId('views').children) button.setAttribute('aria-pressed', String(button.dataset.view === view));
}

byId('sign-in-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const token = byId('token').value.trim();
  storeToken(token, byId('remember').checked);
  open(token);
});

byId('sign-out').addEventListener('click', () => {
  current?.client.close();
  forgetToken();
  askForToken();
});

byId('bell').addEventListener('click', () => {
  showView('inbox');
  document.querySelector('[data-filter=unread]')?.click();
});

byId('views').addEventListener('click', ({ target }) => target.dataset.view && showView(target.dataset.view));

// A link with a token, opened in a tab that already shows this page.
addEventListener('hashchange', () => {
  if (!location.hash.includes('token=')) return;
  current?.client.close();
  current?.inbox.clear();
  start();
});

function start() {
  const token = storedToken();
  if (token) open(token);
  else askForToken();
}

start();
