// Small lines in the conversation: which tool was used with what, what it put out, what was remembered. Folded, and text only.
import { h, icon } from './dom.js';
import { oneLine, output, shown, visible } from './plain.js';

/** Characters of output kept in the page for one call. */
const KEPT = 20000;

/** @typedef {{row: HTMLElement, state: HTMLElement, pre: HTMLElement, text: string}} Running */

export class ToolRows {
  /** @param {import('./transcript.js').Transcript} transcript */
  constructor(transcript) {
    this.transcript = transcript;
    /** @type {Map<string, Running>} the call of each turn that was begun last */
    this.running = new Map();
  }

  /** @param {string} turn @param {string} data {"tool","args"} */
  tool(turn, data) {
    this.done(turn);
    const call = parse(data);
    const name = visible(String(call.tool ?? 'a tool'));
    const state = h('span', { class: 'state' }, 'runs…');
    const pre = h('pre', { tabindex: '0', role: 'group', 'aria-label': `Output of ${name}` });
    const args = Object.entries(call.args ?? {}).map(([key, value]) => h('div', {}, h('dt', {}, visible(key)), h('dd', {}, h('code', {}, shown(value)))));
    const row = this.add(
      h('summary', {}, icon('tool'), h('b', {}, name), h('code', {}, oneLine(call.args)), state),
      args.length ? h('dl', { class: 'args' }, ...args) : null,
      pre,
      turn,
    );
    pre.hidden = true;
    this.running.set(turn, { row, state, pre, text: '' });
    while (this.running.size > 16) this.running.delete(/** @type {string} */ (this.running.keys().next().value));
  }

  /** @param {string} turn @param {string} text the next piece */
  output(turn, text) {
    const call = this.running.get(turn);
    if (!call) return;
    call.text += text;
    call.pre.hidden = false;
    call.pre.textContent = output(call.text.slice(0, KEPT)) + (call.text.length > KEPT ? '\n… the rest is not shown' : '');
    this.transcript.toEnd();
  }

  /** What came back from memory for this turn. @param {string} turn @param {string} data */
  recall(turn, data) {
    const facts = recalled(data);
    if (!facts.length) return;
    const list = h('ul', {}, ...facts.map((fact) => h('li', {}, visible(fact))));
    const count = facts.length === 1 ? 'one thing' : `${facts.length} things`;
    this.add(h('summary', {}, icon('memory'), h('b', {}, `remembered ${count}`), h('code', {}, visible(facts[0]))), list, null, turn);
  }

  /** A fact was kept. @param {string} turn @param {string} fact */
  remembered(turn, fact) {
    this.add(h('summary', {}, icon('memory'), h('b', {}, 'will remember'), h('code', {}, visible(fact))), h('p', {}, visible(fact)), null, turn);
  }

  /** The turn goes on without the tool. @param {string} turn */
  done(turn) {
    const call = this.running.get(turn);
    if (!call) return;
    call.state.textContent = call.text ? '' : 'done';
    this.running.delete(turn);
  }

  /** @param {HTMLElement} summary @param {HTMLElement|null} first @param {HTMLElement|null} second @param {string} turn */
  add(summary, first, second, turn) {
    const { box, open, done } = this.transcript;
    const row = h('details', { class: 'row tool', 'data-role': 'tool' }, summary, first, second);
    // Before the reply: that is the order in which things happen.
    const reply = open.get(turn)?.row ?? done.get(turn);
    box.insertBefore(row, reply?.isConnected ? reply : null);
    this.transcript.toEnd();
    return row;
  }
}

/** @param {string} data @returns {any} */
function parse(data) {
  try {
    return JSON.parse(data) ?? {};
  } catch {
    return { tool: data };
  }
}

/** @param {string} data @returns {string[]} */
function recalled(data) {
  let json;
  try {
    json = JSON.parse(data);
  } catch {
    return data.split('\n').filter(Boolean);
  }
  const list = Array.isArray(json) ? json : json?.facts ?? json?.items ?? [];
  return list.map((/** @type {any} */ fact) => (typeof fact === 'string' ? fact : String(fact?.text ?? ''))).filter(Boolean);
}
