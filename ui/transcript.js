// The conversation: what everybody said, by any way in, as the server tells it over /ws.
import { byId, formatTime, h, icon } from './dom.js';
import { richText } from './richtext.js';

/** @typedef {import('./types').Entry} Entry */
/** @typedef {{row: HTMLElement, body: HTMLElement, text: string, frame: number}} Open a reply that is still coming */

/** How a turn came in, where that is worth a word. @type {Record<string, string>} */
const SOURCES = { voice: 'spoken', realtime: 'realtime', api: 'by the API', cli: 'from the terminal', ws: 'by /ws', internal: 'by /internal/chat' };
const STARTERS = ['What can you do?', 'Tell me about the sea at night', 'Help me plan a quiet evening'];
/** Rows kept in the page; the server keeps everything. */
const MOST_ROWS = 400;

export class Transcript {
  /** @param {(text: string) => void} onStarter */
  constructor(onStarter) {
    this.box = byId('transcript');
    this.talk = byId('talk');
    this.latest = byId('to-latest');
    this.announcer = byId('announcer');
    this.onStarter = onStarter;
    /** @type {Map<string, Open>} */
    this.open = new Map();
    /** @type {Map<string, HTMLElement>} the newest finished replies: a cut may still shorten one */
    this.done = new Map();
    this.stuck = true;
    this.box.addEventListener('scroll', () => {
      this.stuck = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 60;
      if (this.stuck) this.latest.hidden = true;
    });
    this.latest.addEventListener('click', () => this.toEnd(true));
    // The box shrinks when a notice or a long draft needs room; the end stays in sight.
    new ResizeObserver(() => this.stuck && this.toEnd()).observe(this.box);
    this.showEmpty();
  }

  get isEmpty() {
    return this.talk.classList.contains('is-empty');
  }

  get busy() {
    return this.open.size > 0;
  }

  /** Replies that have text already. */
  get answering() {
    for (const reply of this.open.values()) if (reply.text) return true;
    return false;
  }

  /** @param {Entry[]} entries */
  load(entries) {
    this.forgetOpen();
    this.box.replaceChildren();
    for (const entry of entries.slice(-MOST_ROWS)) {
      if (entry.role === 'user') this.user(entry.text, entry.source, entry.time);
      else if (entry.text.trim() || !entry.cut) this.addRow('agent', entry.text, { cut: entry.cut, time: entry.time });
    }
    if (!entries.length) this.showEmpty();
    this.talk.classList.toggle('is-empty', !entries.length);
    this.toEnd(true);
  }

  /** The last row's role and text, to recognise what a reload already brought. */
  get last() {
    const row = /** @type {HTMLElement|null} */ (this.box.lastElementChild);
    return row ? { role: row.dataset.role ?? '', text: row.dataset.text ?? '' } : { role: '', text: '' };
  }

  /** @param {string} text @param {string} [source] @param {unknown} [time] */
  user(text, source = '', time = Date.now()) {
    // Who goes on talking before an answer was heard says one longer thing: the server sends it whole again.
    const { last } = this;
    if (last.role === 'user' && text.startsWith(`${last.text} `)) this.box.lastElementChild?.remove();
    this.addRow('user', text, { source, time });
  }

  /** Shows that a reply is on its way. @param {string} turn */
  expect(turn) {
    if (!this.open.has(turn)) this.openReply(turn);
  }

  /** @param {string} turn @param {string} text */
  delta(turn, text) {
    const reply = this.open.get(turn) ?? this.openReply(turn);
    reply.text += text;
    // Many tokens may arrive between two frames: draw once.
    reply.frame ||= requestAnimationFrame(() => {
      reply.frame = 0;
      this.fill(reply.body, reply.text);
      this.toEnd();
    });
  }

  /**
   * The reply is whole, or cut down to what was heard.
   * @param {string} turn @param {string} text @param {boolean} cut
   */
  finish(turn, text, cut) {
    const before = this.done.get(turn);
    if (before && !this.open.has(turn)) {
      this.shorten(before, text, cut);
      return;
    }
    const reply = this.open.get(turn) ?? this.openReply(turn);
    cancelAnimationFrame(reply.frame);
    this.open.delete(turn);
    if (!text.trim() && cut) {
      reply.row.remove();
      return;
    }
    this.fill(reply.body, text);
    reply.row.classList.remove('coming');
    reply.row.dataset.text = text;
    if (cut) this.markCut(reply.row);
    this.announcer.textContent = text;
    this.done.set(turn, reply.row);
    if (this.done.size > 16) this.done.delete(/** @type {string} */ (this.done.keys().next().value));
    this.toEnd();
  }

  /** @param {HTMLElement} row @param {string} text @param {boolean} cut */
  shorten(row, text, cut) {
    if (cut && !text.trim()) {
      row.remove();
      return;
    }
    this.fill(/** @type {HTMLElement} */ (row.querySelector('.body')), text);
    row.dataset.text = text;
    if (cut && !row.classList.contains('cut')) this.markCut(row);
  }

  /** @param {string} turn */
  knows(turn) {
    return this.open.has(turn) || this.done.has(turn);
  }

  /** @param {string} turn @param {string} text */
  error(turn, text) {
    const reply = this.open.get(turn);
    this.open.delete(turn);
    if (reply) {
      cancelAnimationFrame(reply.frame);
      if (!reply.text) reply.row.remove();
      else reply.row.classList.remove('coming');
    }
    this.addRow('error', text, {});
  }

  /** The agent is idle: a reply that is still open was withdrawn before a word of it counted. */
  settle() {
    for (const [turn, reply] of this.open) {
      cancelAnimationFrame(reply.frame);
      reply.row.remove();
      this.open.delete(turn);
    }
  }

  /** Nothing of the last reply was heard, so it was not said. */
  unheard() {
    const row = /** @type {HTMLElement|null} */ (this.box.lastElementChild);
    if (row?.dataset.role !== 'agent' || row.classList.contains('cut')) return;
    for (const [turn, reply] of this.open) if (reply.row === row) this.open.delete(turn);
    row.remove();
  }

  forgetOpen() {
    for (const reply of this.open.values()) cancelAnimationFrame(reply.frame);
    this.open.clear();
    this.done.clear();
  }

  /** @param {string} turn @returns {Open} */
  openReply(turn) {
    const row = this.addRow('agent', '', {});
    row.classList.add('coming');
    const body = /** @type {HTMLElement} */ (row.querySelector('.body'));
    body.append(h('span', { class: 'dots', 'aria-label': 'thinking' }, h('i'), h('i'), h('i')));
    const reply = { row, body, text: '', frame: 0 };
    this.open.set(turn, reply);
    return reply;
  }

  /**
   * @param {'user'|'agent'|'error'} role @param {string} text
   * @param {{source?: string, time?: unknown, cut?: boolean}} more
   */
  addRow(role, text, { source = '', time, cut = false }) {
    if (this.isEmpty) {
      this.box.replaceChildren();
      this.talk.classList.remove('is-empty');
    }
    const body = h('div', { class: 'body' });
    if (text) this.fill(body, text, role !== 'agent');
    const row = h('article', { class: `row ${role}`, 'data-role': role, 'data-text': text }, body);
    const label = SOURCES[source];
    const clock = formatTime(time);
    if (role === 'user' && (label || clock)) {
      row.append(h('p', { class: 'meta' }, source === 'voice' && icon('mic'), [label, clock].filter(Boolean).join(' · ')));
    }
    if (role === 'error') body.prepend(icon('alert'));
    if (cut) this.markCut(row);
    this.box.append(row);
    while (this.box.children.length > MOST_ROWS) this.box.firstChild?.remove();
    this.toEnd(role === 'user');
    return row;
  }

  /** @param {HTMLElement} body @param {string} text @param {boolean} [plain] */
  fill(body, text, plain = false) {
    if (plain) body.textContent = text;
    else body.replaceChildren(richText(text));
  }

  /** @param {HTMLElement} row */
  markCut(row) {
    row.classList.add('cut');
    row.append(h('p', { class: 'meta' }, 'interrupted: these are the words that were heard'));
  }

  showEmpty() {
    this.talk.classList.add('is-empty');
    const starters = STARTERS.map((text) => h('button', { type: 'button', class: 'starter', onclick: () => this.onStarter(text) }, text));
    this.box.replaceChildren(h('div', { class: 'starters' }, ...starters));
  }

  /** @param {boolean} [force] also when the person has scrolled up */
  toEnd(force = false) {
    if (force) this.stuck = true;
    if (this.stuck) {
      this.box.scrollTop = this.box.scrollHeight;
      this.latest.hidden = true;
    } else this.latest.hidden = false;
  }
}
