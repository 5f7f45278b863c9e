/**
 * What went wrong, with a stable `code`. Errors of the API carry what its problem+json said.
 */
export class CarillonError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ status?: number, field?: string, retryAfterMs?: number, terminal?: boolean, cause?: unknown }} [more]
   */
  constructor(code, message, more = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'CarillonError';
    this.code = code;
    this.status = more.status;
    this.field = more.field;
    this.retryAfterMs = more.retryAfterMs;
    /** True where the client has given up: it will not try again by itself. */
    this.terminal = more.terminal ?? false;
  }
}
