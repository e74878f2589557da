// What was done: the newest entries of the hash-chained log, and whether the chain holds.
import { api } from './api.js';
import { byId, h, icon, toDate } from './dom.js';
import { oneLine, person, shown, visible } from './plain.js';

/** @typedef {Record<string, any>} Entry */

const SHOWN = 200;
/** Not worth a line of their own when an entry is unfolded. */
const HEAD = new Set(['seq', 'time', 'kind', 'tool']);

export class AuditView {
  constructor() {
    this.list = byId('audit-list');
    this.filter = /** @type {HTMLSelectElement} */ (byId('audit-tool'));
    this.chain = byId('audit-chain');
    /** @type {Entry[]} */
    this.entries = [];
    this.filter.addEventListener('change', () => this.draw());
    byId('audit-refresh').addEventListener('click', () => void this.show());
  }

  async show() {
    this.chain.className = 'chain';
    this.chain.textContent = 'Checking the chain…';
    try {
      const answer = await api(`/api/audit?n=${SHOWN}&verify=1`);
      this.entries = answer.entries ?? [];
      this.offerTools();
      this.draw();
      this.showChain(answer.chain);
    } catch (error) {
      this.chain.textContent = `The log cannot be read: ${/** @type {Error} */ (error).message}`;
    }
  }

  /** @param {{good: boolean, lines: number, problem: string}|undefined} chain */
  showChain(chain) {
    const good = Boolean(chain?.good);
    this.chain.classList.toggle('bad', !good);
    const text = good ? `The chain of ${chain?.lines} ${chain?.lines === 1 ? 'entry' : 'entries'} is whole.` : `The chain is broken: ${visible(chain?.problem ?? 'it was not checked')}`;
    this.chain.replaceChildren(h('i', { class: 'dot', 'data-light': good ? 'ok' : 'bad' }), text);
  }

  offerTools() {
    const before = this.filter.value;
    const names = [...new Set(this.entries.map((entry) => toolOf(entry)).filter(Boolean))].sort();
    this.filter.replaceChildren(h('option', { value: '' }, 'all tools'), ...names.map((name) => h('option', { value: name }, name)));
    this.filter.value = names.includes(before) ? before : '';
  }

  draw() {
    const found = this.entries.filter((entry) => !this.filter.value || toolOf(entry) === this.filter.value);
    this.list.replaceChildren(...found.map((entry) => this.item(entry)));
    if (!found.length) this.list.append(h('li', { class: 'dim' }, 'Nothing was done yet.'));
  }

  /** @param {Entry} entry */
  item(entry) {
    const outcome = String(entry.verdict?.replace(/unix:\d+/, person) ?? entry.error ?? (entry.what ? `${entry.what}, by ${person(String(entry.by))}` : ''));
    const bad = Boolean(entry.error) || (entry.verdict && !/^approved/.test(entry.verdict));
    const time = toDate(entry.time);
    const rows = Object.entries(entry)
      .filter(([key]) => !HEAD.has(key))
      .map(([key, value]) => h('div', {}, h('dt', {}, visible(key)), h('dd', {}, h('code', {}, shown(value)))));
    return h(
      'li',
      { 'data-kind': entry.kind },
      h(
        'details',
        { class: 'audit-entry' },
        h(
          'summary',
          {},
          h('time', { datetime: time?.toISOString(), title: time?.toISOString() ?? '' }, time?.toLocaleString('en-GB', { day: '2-digit', month: 'short', hour: '2-digit', minute: '2-digit', second: '2-digit' }) ?? ''),
          h('span', { class: `chip ${bad ? 'denied' : ''}` }, visible(String(entry.kind ?? ''))),
          h('b', {}, visible(String(entry.tool ?? entry.name ?? ''))),
          h('span', { class: 'what' }, bad ? icon('alert') : null, h('span', {}, visible(outcome) || oneLine(entry.args))),
        ),
        h('dl', { class: 'args' }, h('div', {}, h('dt', {}, 'number'), h('dd', {}, String(entry.seq ?? ''))), ...rows),
      ),
    );
  }
}

/** @param {Entry} entry */
function toolOf(entry) {
  return String(entry.tool ?? '').split('.')[0];
}
