/** Where the token is kept: in this tab, or on this device where the person said so. */
const KEY = 'carillon.token';

/** @returns {string | null} */
export function storedToken() {
  return fromFragment() ?? sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
}

/**
 * @param {string} token
 * @param {boolean} onDevice
 */
export function storeToken(token, onDevice) {
  forgetToken();
  (onDevice ? localStorage : sessionStorage).setItem(KEY, token);
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
}

/**
 * A token in the fragment (`#token=…`) never reaches a server; it leaves the address bar and the history at once.
 * @returns {string | null}
 */
function fromFragment() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (!token) return null;
  history.replaceState(null, '', location.pathname + location.search);
  storeToken(token, false);
  return token;
}
