// The log as it happens. Lines are kept here and filtered here; the server is only told the least level to send.
import { byId, h, toDate } from './dom.js';

/** @typedef {{data: string, topic: string, level: string, time?: unknown, serial?: number}} Line */

const KEPT = 1000;
const SHOWN = 500;
const LEVELS = ['error', 'warning', 'info', 'debug'];

export class Terminal {
  /** @param {(level: string) => void} onLevel */
  constructor(onLevel) {
    this.box = byId('terminal');
    this.level = /** @type {HTMLSelectElement} */ (byId('log-level'));
    this.topic = /** @type {HTMLSelectElement} */ (byId('log-topic'));
    this.search = /** @type {HTMLInputElement} */ (byId('log-search'));
    /** @type {Line[]} */
    this.lines = [];
    /** @type {Line[]} */
    this.fresh = [];
    this.frame = 0;
    this.newest = -1;
    this.level.addEventListener('change', () => {
      onLevel(this.level.value);
      this.redraw();
    });
    this.topic.addEventListener('change', () => this.redraw());
    this.search.addEventListener('input', () => this.redraw());
    byId('clear-terminal').addEventListener('click', () => this.clear());
    this.clear();
  }

  /** @param {Line} line */
  add(line) {
    // After a reconnect the server repeats its last lines; a restarted server counts from the start again.
    if (line.serial !== undefined) {
      const restarted = line.serial < this.newest - KEPT;
      if (line.serial <= this.newest && !restarted && this.lines.some((old) => old.serial === line.serial && old.data === line.data)) return;
      this.newest = line.serial;
    }
    this.lines.push(line);
    if (this.lines.length > KEPT) this.lines.splice(0, this.lines.length - KEPT);
    if (![...this.topic.options].some((option) => option.value === line.topic)) this.addTopic(line.topic);
    if (!this.wants(line)) return;
    this.fresh.push(line);
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  /** @param {string} topic */
  addTopic(topic) {
    const after = [...this.topic.options].find((option) => option.value > topic && option.value !== '*');
    this.topic.insertBefore(h('option', { value: topic }, topic), after ?? null);
  }

  /** @param {Line} line */
  wants(line) {
    const level = LEVELS.indexOf(line.level);
    if ((level < 0 ? 2 : level) > LEVELS.indexOf(this.level.value)) return false;
    if (this.topic.value !== '*' && this.topic.value !== line.topic) return false;
    const needle = this.search.value.trim().toLowerCase();
    return !needle || line.data.toLowerCase().includes(needle);
  }

  draw() {
    this.frame = 0;
    const stuck = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
    this.box.querySelector('.empty')?.remove();
    this.box.append(...this.fresh.slice(-SHOWN).map((line) => this.row(line)));
    this.fresh = [];
    while (this.box.children.length > SHOWN) this.box.firstChild?.remove();
    if (stuck) this.box.scrollTop = this.box.scrollHeight;
  }

  /** @param {Line} line */
  row(line) {
    return h(
      'div',
      { class: `line ${LEVELS.includes(line.level) || line.level === 'user' || line.level === 'agent' ? line.level : 'info'}`, 'data-topic': line.topic },
      h('time', { title: toDate(line.time)?.toISOString() ?? '' }, toDate(line.time)?.toLocaleTimeString('en-GB') ?? ''),
      h('b', {}, line.topic),
      h('span', {}, line.data),
    );
  }

  redraw() {
    cancelAnimationFrame(this.frame);
    this.box.replaceChildren();
    this.fresh = this.lines.filter((line) => this.wants(line));
    if (this.fresh.length) this.draw();
    else this.empty('No line matches.');
    this.box.scrollTop = this.box.scrollHeight;
  }

  clear() {
    this.lines = [];
    this.fresh = [];
    this.empty('Cleared. New lines appear here.');
  }

  /** @param {string} text */
  empty(text) {
    this.box.replaceChildren(h('div', { class: 'empty' }, text));
  }
}
