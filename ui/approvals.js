// What waits for a yes or no. The queue is the server's: a reload, another page or a terminal see the same one. Nothing is
// decided here; the server checks the digest of what was shown and whether this page may answer at all.
import { api } from './api.js';
import { byId, h, icon, toast } from './dom.js';
import { asker, CLASSES, shown, visible } from './plain.js';

/** @typedef {import('./types').Approval} Approval */
/** @typedef {{card: Approval, element: HTMLElement, clock: HTMLElement, until: number, grant: HTMLInputElement|null, busy: boolean}} Waiting */

const BUSY_MS = 2000;
const CALM_MS = 5000;
/** The server tells us of every change: asking is only a safety net. */
const TOLD_MS = 30000;
/** A yes so soon after the queue has changed was meant for something else. */
const LOOK_MS = 600;
const TITLE = document.title;

export class Approvals {
  /** @param {{changed: () => void, busy: () => boolean}} handlers busy: a turn runs that may ask at any moment */
  constructor(handlers) {
    this.handlers = handlers;
    this.box = byId('approvals');
    this.list = byId('approvals-list');
    this.how = byId('approvals-how');
    this.live = byId('approvals-live');
    /** @type {Map<string, Waiting>} in the order they came */
    this.waiting = new Map();
    /** @type {import('./types').Grant[]} */
    this.grants = [];
    this.mayAnswer = false;
    this.told = false;
    this.asking = false;
    this.again = false;
    this.timer = 0;
    this.clock = 0;
    this.changedAt = 0;
    /** @type {Element|null} where the keyboard was before it came here */
    this.before = null;
    addEventListener('keydown', (event) => this.key(event));
    this.box.addEventListener('focusin', (event) => {
      const from = /** @type {FocusEvent} */ (event).relatedTarget;
      if (from instanceof Element && !this.box.contains(from)) this.before = from;
      this.mark();
    });
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') void this.refresh();
    });
  }

  get size() {
    return this.waiting.size;
  }

  /** A message of the server about approvals. @param {any} event */
  event(event) {
    this.told = true;
    const card = event.data ?? {};
    if (event.type === 'approval_closed') this.close(String(card.id ?? card.request_id ?? ''), card);
    void this.refresh();
  }

  async refresh() {
    if (this.asking) {
      this.again = true;
      return;
    }
    this.asking = true;
    clearTimeout(this.timer);
    let absent = false;
    try {
      const answer = await api('/api/approvals');
      this.mayAnswer = Boolean(answer.may_answer);
      this.grants = answer.grants ?? [];
      this.update(answer.approvals ?? []);
    } catch (error) {
      absent = /** @type {import('./api.js').ApiError} */ (error).status === 404;
    }
    this.asking = false;
    if (this.again) {
      this.again = false;
      void this.refresh();
    } else if (!absent && document.visibilityState !== 'hidden') {
      const busy = this.waiting.size || this.handlers.busy();
      this.timer = window.setTimeout(() => void this.refresh(), this.told ? TOLD_MS : busy ? BUSY_MS : CALM_MS);
    }
  }

  /** @param {Approval[]} cards */
  update(cards) {
    for (const id of [...this.waiting.keys()]) if (!cards.some((card) => card.id === id)) this.close(id, null);
    const fresh = [];
    for (const card of cards) {
      const known = this.waiting.get(card.id);
      const until = Date.now() + card.expires_ms;
      if (known) known.until = until;
      else {
        const one = this.make(card, until);
        this.waiting.set(card.id, one);
        this.list.append(one.element);
        fresh.push(card);
      }
    }
    if (fresh.length) {
      this.changedAt = Date.now();
      const more = this.waiting.size > 1 ? ` ${this.waiting.size} requests wait.` : '';
      this.say(`Choir asks: may it use ${name(fresh[0])} on ${visible(fresh[0].target)}?${more}${this.mayAnswer ? '' : ' This page may not answer.'}`);
    }
    this.show();
  }

  /** @param {string} id @param {any} closed how it ended, if we were told */
  close(id, closed) {
    const one = this.waiting.get(id);
    if (!one) return;
    const held = one.element.contains(document.activeElement);
    const next = one.element.nextElementSibling ?? one.element.previousElementSibling;
    this.waiting.delete(id);
    one.element.remove();
    this.changedAt = Date.now();
    const verdict = closed?.verdict ? `${closed.verdict}${closed.by ? ` by ${visible(closed.by)}` : ''}` : one.busy ? 'answered' : 'no longer waits';
    this.say(`${name(one.card)}: ${verdict}.`);
    if (closed?.verdict && !one.busy) toast(`${name(one.card)}: ${verdict}`);
    // The keyboard stays in the queue while there is one, and then goes back to where it came from.
    if (held) {
      if (next) /** @type {HTMLElement|null} */ (next.querySelector('button'))?.focus();
      else if (this.before instanceof HTMLElement && this.before.isConnected && this.before !== document.body) this.before.focus();
      else byId('message-input').focus();
    }
    this.show();
  }

  show() {
    const { size } = this.waiting;
    this.box.hidden = size === 0;
    document.body.classList.toggle('asking', size > 0);
    document.title = size ? `(${size}) ${TITLE}` : TITLE;
    byId('approvals-count').textContent = size > 1 ? `${size} wait` : '';
    this.how.hidden = this.mayAnswer;
    for (const one of this.waiting.values()) for (const control of one.element.querySelectorAll('button, input')) /** @type {HTMLButtonElement} */ (control).disabled = !this.mayAnswer || one.busy;
    this.mark();
    this.tick();
    if (size && !this.clock) this.clock = window.setInterval(() => this.tick(), 1000);
    else if (!size) {
      clearInterval(this.clock);
      this.clock = 0;
    }
    this.handlers.changed();
  }

  tick() {
    let over = false;
    for (const one of this.waiting.values()) {
      const left = Math.ceil((one.until - Date.now()) / 1000);
      one.clock.textContent = left > 0 ? `denied in ${left} s` : 'expired';
      one.clock.classList.toggle('soon', left <= 20);
      over ||= left <= 0;
    }
    if (over && !this.asking) void this.refresh();
  }

  /** The one that the keys y and n answer: where the keyboard is, else the oldest. */
  get target() {
    for (const one of this.waiting.values()) if (one.element.contains(document.activeElement)) return one;
    return this.waiting.values().next().value;
  }

  mark() {
    const { target } = this;
    for (const one of this.waiting.values()) {
      const next = one === target && this.mayAnswer;
      if (next && !one.element.classList.contains('next')) this.changedAt = Math.max(this.changedAt, Date.now() - LOOK_MS / 2);
      one.element.classList.toggle('next', next);
    }
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const key = event.key.toLowerCase();
    if ((key !== 'y' && key !== 'n') || event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    const at = event.target instanceof HTMLElement ? event.target : document.body;
    if (at.closest('input:not([type=checkbox]), textarea, select, [contenteditable], dialog') || document.querySelector('dialog[open]')) return;
    const { target } = this;
    if (!target || !this.mayAnswer) return;
    event.preventDefault();
    if (key === 'n' || this.inSight(target)) void this.answer(target, key === 'y');
    else target.element.scrollIntoView({ block: 'nearest' });
  }

  /** Nobody says yes to what is scrolled away. @param {Waiting} one */
  inSight(one) {
    const box = this.box.getBoundingClientRect();
    const card = one.element.getBoundingClientRect();
    const foot = one.element.querySelector('.approval-foot')?.getBoundingClientRect().bottom ?? card.bottom;
    return foot <= box.bottom + 1 && (card.top >= box.top - 1 || card.height > box.height);
  }

  /** @param {Waiting} one @param {boolean} yes */
  async answer(one, yes) {
    if (one.busy || (yes && Date.now() - this.changedAt < LOOK_MS)) return;
    one.busy = true;
    // Only the look: a disabled button would lose the keyboard.
    one.element.setAttribute('aria-busy', 'true');
    const { id, digest } = one.card;
    const grant = yes && Boolean(one.grant?.checked);
    try {
      await api('/api/approvals/answer', { id, digest, approve: yes, grant });
      this.close(id, { verdict: yes ? 'approved' : 'denied' });
    } catch (error) {
      one.busy = false;
      one.element.removeAttribute('aria-busy');
      toast(/** @type {Error} */ (error).message, 'error');
    }
    await this.refresh();
  }

  /** @param {string} text */
  say(text) {
    this.live.textContent = text;
  }

  /** @param {Approval} card @param {number} until @returns {Waiting} */
  make(card, until) {
    const title = `approval-${card.id}`;
    const clock = h('span', { class: 'clock num', role: 'timer' });
    const grant = !card.once ? h('input', { type: 'checkbox' }) : null;
    const yes = h('button', { type: 'button', class: 'primary allow', onclick: () => void this.answer(one, true), 'aria-describedby': title, 'aria-keyshortcuts': 'y' }, 'Allow', h('kbd', { 'aria-hidden': 'true' }, 'Y'));
    const no = h('button', { type: 'button', class: 'plain deny', onclick: () => void this.answer(one, false), 'aria-describedby': title, 'aria-keyshortcuts': 'n' }, 'Deny', h('kbd', { 'aria-hidden': 'true' }, 'N'));
    const element = h(
      'div',
      { class: `approval ${card.class}`, 'data-id': card.id, role: 'group', 'aria-labelledby': title },
      h('div', { class: 'approval-head' }, h('h3', { id: title }, name(card)), h('span', { class: 'chip' }, `on ${visible(card.target)}`), h('span', { class: `chip ${card.class}` }, CLASSES[card.class] ?? card.class), clock),
      card.reasons?.length ? h('ul', { class: 'reasons' }, ...card.reasons.map((why) => h('li', {}, icon('alert'), visible(why)))) : null,
      this.args(card),
      card.preview ? preview(card) : null,
      h('p', { class: 'dim' }, `Asked by ${asker(card.session)}`),
      h('div', { class: 'approval-foot' }, yes, no, grant ? h('label', {}, grant, 'also for this session') : h('span', { class: 'dim' }, 'asked every time')),
    );
    /** @type {Waiting} */
    const one = { card, element, clock, until, grant, busy: false };
    return one;
  }

  /** The exact arguments, each under its name. @param {Approval} card */
  args(card) {
    const rows = Object.entries(card.args ?? {}).map(([key, value]) => h('div', {}, h('dt', {}, visible(key)), h('dd', {}, h('pre', { tabindex: '0', role: 'group', 'aria-label': visible(key) }, shown(value)))));
    return rows.length ? h('dl', { class: 'args' }, ...rows) : h('p', { class: 'dim' }, 'without arguments');
  }
}

/** @param {Approval} card */
function name(card) {
  return visible(card.action ? `${card.tool}.${card.action}` : card.tool);
}

/** A diff or a dry run, its lines coloured. @param {Approval} card */
function preview(card) {
  const lines = (card.preview ?? '').replace(/\n$/, '').split('\n').map((line) => {
    const kind = /^\+(?!\+\+)/.test(line) ? 'added' : /^-(?!--)/.test(line) ? 'removed' : /^@@/.test(line) ? 'place' : '';
    return h('span', { class: kind }, `${visible(line)}\n`);
  });
  return h('div', { class: 'preview' }, h('p', { class: 'dim' }, 'What it would do'), h('pre', { tabindex: '0', role: 'group', 'aria-label': 'What it would do' }, ...lines));
}
