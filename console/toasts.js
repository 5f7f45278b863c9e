import { byId, make } from './dom.js';

const SHOWN_AT_ONCE = 4;
const SHOWN_MS = 7_000;

/** Short-lived cards for what has just happened; screen readers hear them. */
export class Toasts {
  #region = byId('toasts');

  /** @param {{ id: string, title: string, content: string, kind: string }} notification */
  arrived({ id, title, content, kind }) {
    this.#show(kind, kind === 'alert' ? 'alert' : 'group', title, content, id);
  }

  /** @param {string} text */
  failed(text) {
    this.#show('error', 'alert', 'That did not work', text);
  }

  /**
   * @param {string} kind
   * @param {string} role
   * @param {string} title
   * @param {string} content
   * @param {string} [id]
   */
  #show(kind, role, title, content, id) {
    const close = make('button', { type: 'button', class: 'icon', 'aria-label': 'Dismiss' }, '×');
    const toast = make(
      'div',
      { class: 'toast', role, 'data-kind': kind, ...(id ? { 'data-id': id } : {}) },
      make('div', { class: 'toast-text' }, make('strong', { dir: 'auto' }, title), make('p', { dir: 'auto' }, content)),
      close,
    );
    const timer = setTimeout(() => toast.remove(), SHOWN_MS);
    close.addEventListener('click', () => {
      clearTimeout(timer);
      toast.remove();
    });
    this.#region.append(toast);
    while (this.#region.childElementCount > SHOWN_AT_ONCE) this.#region.firstElementChild.remove();
  }
}
