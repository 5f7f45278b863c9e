import { make } from './dom.js';
import { ago, exactly } from './time.js';

const LOUD = new Set(['high', 'urgent', 'critical', '1', '2']);

/** One notification in the list. */
export class Item {
  #time;
  #priority;
  #kind;
  #title;
  #content;
  #read;

  /**
   * @param {import('/client/index.js').Notification} notification
   * @param {{ read: (id: string) => void, later: (id: string) => void, archive: (id: string) => void, remove: (id: string) => void }} actions
   */
  constructor(notification, actions) {
    const { id } = notification;
    this.#title = make('h3', { dir: 'auto' });
    this.#kind = make('span', { class: 'kind' });
    this.#priority = make('span', { class: 'priority' });
    this.#time = make('time');
    this.#content = make('p', { class: 'content', dir: 'auto' });
    this.#read = make('button', { type: 'button', class: 'plain mark-read' }, 'Mark read');
    const later = make('button', { type: 'button', class: 'plain later', title: 'Back in an hour' }, 'Later');
    const archive = make('button', { type: 'button', class: 'plain archive' }, 'Archive');
    const remove = make('button', { type: 'button', class: 'plain delete' }, 'Delete');
    this.#read.addEventListener('click', () => actions.read(id));
    later.addEventListener('click', () => actions.later(id));
    archive.addEventListener('click', () => actions.archive(id));
    remove.addEventListener('click', () => actions.remove(id));
    this.element = make(
      'li',
      { class: 'item', 'data-id': id },
      make('div', { class: 'item-head' }, this.#title, this.#time),
      this.#content,
      make(
        'div',
        { class: 'item-foot' },
        this.#kind,
        this.#priority,
        make('span', { class: 'grow' }),
        this.#read,
        later,
        archive,
        remove,
      ),
    );
    this.update(notification);
  }

  /** @param {import('/client/index.js').Notification} notification */
  update(notification) {
    this.notification = notification;
    const { title, content, kind, priority, timestamp, is_read: isRead } = notification;
    this.#title.textContent = title;
    this.#content.textContent = content;
    this.#content.hidden = content === '';
    this.#kind.textContent = kind;
    this.#priority.textContent = priority;
    this.#priority.classList.toggle('loud', LOUD.has(priority));
    this.#read.hidden = isRead;
    this.element.dataset.kind = kind;
    this.element.dataset.read = String(isRead);
    if (timestamp !== null) {
      this.#time.dateTime = new Date(timestamp * 1000).toISOString();
      this.#time.title = exactly(timestamp);
    }
    this.tick();
  }

  /** Time goes on. */
  tick() {
    const { timestamp } = this.notification;
    this.#time.textContent = timestamp === null ? '' : ago(timestamp);
  }
}
