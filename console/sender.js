import { byId, make, say } from './dom.js';

const LABELS = { user: 'User id', role: 'Role', store: 'Store id', topic: 'Topic name', tenant: '' };

/** The form that sends. */
export class Sender {
  #form = byId('sender');
  /** @type {Record<string, { title?: string, content?: string, channels?: string[], priority?: string }>} */
  #templates = {};
  /** One key for one thing said: pressing Send again after a lost answer does not say it twice. */
  #key = '';
  #client;

  /**
   * @param {import('/client/index.js').CarillonClient} client
   * @param {string} me
   */
  constructor(client, me) {
    this.#client = client;
    byId('to').value = me;
    this.#form.onsubmit = (event) => {
      event.preventDefault();
      void this.#send();
    };
    this.#form.oninput = () => {
      this.#key = '';
      this.#arrange();
    };
    byId('listen').onclick = () => this.#listen();
    this.#arrange();
    void this.#loadTemplates();
  }

  async #loadTemplates() {
    try {
      this.#templates = await this.#client.api.templates();
    } catch {
      this.#templates = {}; // Without templates one can still write.
    }
    const choice = byId('template');
    choice.replaceChildren(choice.firstElementChild);
    for (const [name, { title }] of Object.entries(this.#templates)) {
      choice.append(make('option', { value: name }, title ? `${name} (${title})` : name));
    }
    byId('template-choice').hidden = choice.childElementCount === 1;
  }

  /** Shows the fields that the present choices need. */
  #arrange() {
    const target = byId('target').value;
    byId('target-value').hidden = target === 'tenant';
    byId('to-label').textContent = LABELS[target];
    byId('topic-hint').hidden = target !== 'topic';
    byId('address').hidden = !byId('email').checked;
    const name = byId('template').value;
    const template = this.#templates[name];
    byId('own-words').hidden = template !== undefined;
    const text = template ? [template.title, template.content].filter(Boolean).join(': ') : '';
    say(byId('template-text'), text);
    this.#arrangeVariables(name, text);
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #arrangeVariables(name, text) {
    const box = byId('variables');
    if (box.dataset.template === name) return;
    box.dataset.template = name;
    box.replaceChildren(
      ...variablesOf(text).flatMap((variable) => [
        make('label', { for: `variable-${variable}` }, variable),
        make('input', { id: `variable-${variable}`, name: `variables.${variable}`, 'data-variable': variable, autocomplete: 'off' }),
      ]),
    );
  }

  #listen() {
    const topic = byId('to').value.trim();
    if (topic === '') return byId('to').focus();
    this.#client.subscribe(topic);
    this.#answer('ok', `This page now listens to ${topic}.`);
  }

  async #send() {
    const button = byId('send');
    button.disabled = true;
    this.#mark(undefined);
    this.#key ||= newKey();
    try {
      const answer = await this.#client.api.send(this.#body());
      this.#key = '';
      this.#answer('ok', 'Sent.', JSON.stringify(answer, null, 2));
    } catch (error) {
      const where = error.field ? `${error.field}: ` : '';
      this.#answer('failed', `${where}${error.message}`, [error.status, error.code].filter(Boolean).join(' '));
      this.#mark(error.field);
    }
    button.disabled = false;
  }

  #body() {
    const target = byId('target').value;
    const channels = [...this.#form.querySelectorAll('[name=channels]:checked')].map(({ value }) => value);
    const recipient = byId('recipients').value.trim();
    const template = byId('template').value;
    const priority = byId('priority').value;
    return {
      to: { [target]: target === 'tenant' ? true : byId('to').value.trim() },
      kind: byId('kind').value,
      ...(priority ? { priority } : {}),
      ...(template ? { template, variables: this.#variables() } : { title: byId('title').value, content: byId('content').value }),
      channels,
      ...(channels.includes('email') && recipient ? { recipients: [recipient] } : {}),
      idempotency_key: this.#key,
    };
  }

  /** Empty ones are left out: that a variable is missing is the server's to say. */
  #variables() {
    const inputs = [...this.#form.querySelectorAll('[data-variable]')].filter(({ value }) => value !== '');
    return Object.fromEntries(inputs.map(({ dataset, value }) => [dataset.variable, asTyped(value)]));
  }

  /** @param {string | undefined} field such as `title`, `to.user` or `variables.item_name` */
  #mark(field) {
    for (const marked of this.#form.querySelectorAll('[aria-invalid]')) marked.removeAttribute('aria-invalid');
    if (!field) return;
    const [root] = field.split(/[.[]/);
    const named = this.#form.elements.namedItem(field) ?? this.#form.elements.namedItem(root);
    const control = named instanceof RadioNodeList ? named[0] : named;
    control?.setAttribute('aria-invalid', 'true');
    control?.focus();
  }

  /**
   * @param {'ok' | 'failed'} result
   * @param {string} text
   * @param {string} [more]
   */
  #answer(result, text, more) {
    const answer = byId('answer');
    answer.dataset.result = result;
    answer.replaceChildren(make('p', {}, text), ...(more ? [make('pre', { tabindex: '0' }, more)] : []));
  }
}

/**
 * The names between braces: `{name}`, `{{ name }}`, `{{ user.name | upper }}` (its root).
 * @param {string} text
 */
export function variablesOf(text) {
  const found = text.matchAll(/\{\{?\s*([A-Za-z_]\w*)/g);
  return [...new Set([...found].map(([, name]) => name))];
}

/** @param {string} value numbers go as numbers, so that a template can format them */
function asTyped(value) {
  return /^-?(0|[1-9]\d{0,14})(\.\d{1,9})?$/.test(value) ? Number(value) : value;
}

function newKey() {
  // `crypto.randomUUID` is missing on plain http other than localhost.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
