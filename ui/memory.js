// What Choir remembers about the person: search, add, change, forget, export; and whole states under a name.
import { api } from './api.js';
import { ask, byId, formatDay, h, icon, toast } from './dom.js';
import { person, visible } from './plain.js';

/** @typedef {import('./types').Fact} Fact */

const TYPING_MS = 250;

export class MemoryView {
  /** @param {(there: boolean) => void} offer the server keeps a memory */
  constructor(offer) {
    this.offer = offer;
    this.list = byId('memory-list');
    this.search = /** @type {HTMLInputElement} */ (byId('memory-search'));
    this.input = /** @type {HTMLInputElement} */ (byId('memory-input'));
    this.name = /** @type {HTMLInputElement} */ (byId('save-name-input'));
    this.timer = 0;
    this.serial = 0;
    this.search.addEventListener('input', () => {
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => void this.show(), TYPING_MS);
    });
    byId('memory-form').addEventListener('submit', (event) => {
      event.preventDefault();
      void this.add();
    });
    byId('save-state-btn').addEventListener('click', () => void this.state('save'));
    byId('load-state-btn').addEventListener('click', () => void this.state('load'));
  }

  /** Whether there is a memory at all; on a server without one nothing of it is shown. */
  async probe() {
    try {
      await api('/api/memory?n=1');
      this.offer(true);
    } catch (error) {
      const { status } = /** @type {import('./api.js').ApiError} */ (error);
      this.offer(status !== 404 && status !== 401 && status !== 403 && status !== 0);
    }
  }

  async show() {
    const serial = ++this.serial;
    const query = this.search.value.trim();
    try {
      const answer = await api(`/api/memory${query ? `?q=${encodeURIComponent(query)}` : ''}`);
      // A later question was asked meanwhile.
      if (serial !== this.serial) return;
      this.draw(answer, query);
    } catch (error) {
      if (serial === this.serial) this.list.replaceChildren(h('li', { class: 'dim' }, /** @type {Error} */ (error).message));
    }
  }

  /** @param {any} answer @param {string} query */
  draw(answer, query) {
    /** @type {Fact[]} */
    const facts = answer.facts ?? [];
    const count = answer.count ?? facts.length;
    byId('memory-count').textContent = query ? `${facts.length} found` : `${count} ${count === 1 ? 'fact' : 'facts'}`;
    const problem = byId('memory-problem');
    problem.textContent = answer.problem ?? '';
    problem.hidden = !answer.problem;
    this.list.replaceChildren(...facts.map((fact) => this.item(fact)));
    if (!facts.length) this.list.append(h('li', { class: 'dim' }, query ? 'Nothing that fits is remembered.' : 'Nothing is remembered yet. Say “remember that …”, or add it here.'));
  }

  /** @param {Fact} fact */
  item(fact) {
    const text = visible(fact.text);
    const marks = [fact.source && `by ${person(fact.source)}`, formatDay(fact.time), fact.uses ? `recalled ${fact.uses} ${fact.uses === 1 ? 'time' : 'times'}` : '', fact.tainted ? 'not your own words' : '', fact.superseded_by ? 'no longer so' : ''];
    return h(
      'li',
      { class: `entry fact ${fact.superseded_by ? 'absent' : ''}`, 'data-id': fact.id },
      h('div', {}, h('p', { class: 'fact-text' }, text), h('p', { class: 'dim' }, marks.filter(Boolean).map((mark) => visible(String(mark))).join(' · '))),
      h(
        'span',
        { class: 'actions' },
        h('button', { type: 'button', class: 'icon-button', 'aria-label': `Change: ${text}`, title: 'Change', onclick: () => void this.edit(fact) }, icon('edit')),
        h('button', { type: 'button', class: 'icon-button', 'aria-label': `Forget: ${text}`, title: 'Forget', onclick: () => void this.forget(fact) }, icon('trash')),
      ),
    );
  }

  /** @param {() => Promise<any>} action */
  async act(action) {
    try {
      const answer = await action();
      await this.show();
      return answer ?? {};
    } catch (error) {
      toast(/** @type {Error} */ (error).message, 'error');
      return null;
    }
  }

  async add() {
    const text = this.input.value.trim();
    if (!text) return;
    const done = await this.act(() => api('/api/memory', { text }));
    if (done) this.input.value = '';
    this.input.focus();
  }

  /** @param {Fact} fact */
  async edit(fact) {
    const text = await ask({ title: 'Change what is remembered', ok: 'Change', value: fact.text });
    if (text && text !== fact.text) await this.act(() => api('/api/memory/edit', { id: fact.id, text }));
  }

  /** @param {Fact} fact */
  async forget(fact) {
    const yes = await ask({ title: `Forget “${visible(fact.text)}”? It cannot be brought back.`, ok: 'Forget', danger: true });
    if (yes === null) return;
    await this.act(() => api('/api/memory/forget', { id: fact.id }));
    byId('memory-title').focus();
  }

  /** @param {'save'|'load'} what */
  async state(what) {
    const name = this.name.value.trim();
    if (!name) {
      toast('Give the state a name first.', 'error');
      this.name.focus();
      return;
    }
    if (what === 'load') {
      const yes = await ask({ title: `Load “${name}”? What is remembered and said now is replaced; save it first to keep it.`, ok: 'Load', danger: true });
      if (yes === null) return;
    }
    const done = await this.act(() => api(`/api/state/${what}`, { save_name: name }));
    if (done) toast(done.message || (what === 'save' ? `Saved as ${name}.` : `Loaded ${name}.`));
  }
}
