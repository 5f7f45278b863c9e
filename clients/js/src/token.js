/**
 * The `exp` of a JWT in Unix milliseconds. Unverified: a hint when to ask for a new token, never a reason to trust one.
 * @param {string} token
 * @returns {number | undefined}
 */
export function expiryOf(token) {
  const exp = claimsOf(token)?.exp;
  return typeof exp === 'number' ? exp * 1000 : undefined;
}

/**
 * The claims of a JWT, unverified, to show whose token it is.
 * @param {string} token
 * @returns {Record<string, any> | undefined}
 */
export function claimsOf(token) {
  try {
    const payload = token.split('.')[1] ?? '';
    const binary = atob(payload.replaceAll('-', '+').replaceAll('_', '/'));
    const bytes = Uint8Array.from(binary, (char) => char.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === 'object' && claims !== null ? claims : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The token in use: a fixed one, or one asked for when there is none, when it ran out and when the server refused it.
 */
export class TokenSource {
  #source;
  #now;
  /** @type {string | undefined} */
  #token;
  /** @type {Promise<string | null> | undefined} shared by all who ask at the same time */
  #asking;

  /**
   * @param {string | (() => string | null | Promise<string | null>)} source
   * @param {() => number} now Unix milliseconds
   */
  constructor(source, now) {
    this.#source = source;
    this.#now = now;
  }

  /** Whether a refused token can be replaced. */
  get renewable() {
    return typeof this.#source === 'function';
  }

  /**
   * The token to use now; null means that the application has none (signed out).
   * @returns {Promise<string | null>}
   */
  async get() {
    if (typeof this.#source === 'string') return this.#source;
    if (this.#token !== undefined) {
      const expiry = expiryOf(this.#token);
      if (expiry === undefined || expiry > this.#now()) return this.#token;
      this.#token = undefined;
    }
    return await this.renew();
  }

  /**
   * A new token, while the one in use may still be good.
   * @returns {Promise<string | null>}
   */
  async renew() {
    if (typeof this.#source === 'string') return this.#source;
    this.#asking ??= this.#ask(this.#source).finally(() => {
      this.#asking = undefined;
    });
    return await this.#asking;
  }

  /**
   * The server refused this token. Late news about a token already replaced is ignored.
   * @param {string | null | undefined} token
   */
  reject(token) {
    if (token === this.#token) this.#token = undefined;
  }

  /** @param {() => string | null | Promise<string | null>} source */
  async #ask(source) {
    const token = (await source()) || null;
    this.#token = token ?? undefined;
    return token;
  }
}
