export { CarillonClient } from './client.js';
export { CarillonError } from './errors.js';
export { CloseCode, SUBPROTOCOL } from './protocol.js';
export { claimsOf, expiryOf } from './token.js';
