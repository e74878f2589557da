// The health questions: the model is asked a few things that everybody knows, the rest of the house is looked at. What is
// shown is what came back, so that a person sees why something counts as failed.
import { api } from './api.js';
import { byId, h } from './dom.js';
import { visible } from './plain.js';

/** A small model may miss one; that is shown, and counts. */
const QUESTIONS = [
  { ask: 'What is the capital of Spain?', right: /madrid/i },
  { ask: 'Which colour is a ripe banana?', right: /yellow/i },
  { ask: 'Which animal barks?', right: /dog/i },
];
const LIMIT_MS = 120000;

/** @typedef {{name: string, good: boolean, told: string, ms: number}} Check */

/** @param {string} text @returns {Promise<string>} */
async function answer(text) {
  const response = await fetch('/v1/chat/completions', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'X-Choir-CSRF': '1' },
    body: JSON.stringify({ model: 'health', messages: [{ role: 'user', content: text }], max_tokens: 40, temperature: 0 }),
    signal: AbortSignal.timeout(LIMIT_MS),
  });
  const json = await response.json();
  if (!response.ok) throw new Error(json?.error?.message ?? `the server answered ${response.status}`);
  return String(json.choices[0].message.content ?? '');
}

/** @param {string} name @param {() => Promise<{good: boolean, told: string}>} look @returns {Promise<Check>} */
async function check(name, look) {
  const begin = performance.now();
  try {
    const { good, told } = await look();
    return { name, good, told, ms: performance.now() - begin };
  } catch (error) {
    return { name, good: false, told: /** @type {Error} */ (error).message, ms: performance.now() - begin };
  }
}

/** @returns {(() => Promise<Check>)[]} one after the other: the model answers one at a time */
function checks() {
  return [
    () =>
      check('Helpers', async () => {
        const engines = Object.entries((await api('/api/status')).engines ?? {});
        const out = engines.filter(([, engine]) => !(/** @type {any} */ (engine).ready)).map(([name]) => name);
        return { good: engines.length > 0 && out.length === 0, told: out.length ? `not ready: ${out.join(', ')}` : `${engines.length} are ready` };
      }),
    ...QUESTIONS.map((question) => () =>
      check(question.ask, async () => {
        const told = await answer(question.ask);
        return { good: question.right.test(told), told };
      }),
    ),
  ];
}

export class Health {
  constructor() {
    this.button = /** @type {HTMLButtonElement} */ (byId('test-and-evaluation-btn'));
    this.list = byId('health-results');
    this.summary = byId('health-summary');
    this.button.addEventListener('click', () => void this.run());
  }

  async run() {
    const all = checks();
    let good = 0;
    this.button.disabled = true;
    this.list.replaceChildren();
    for (const [index, look] of all.entries()) {
      this.summary.textContent = `Checking ${index + 1} of ${all.length}…`;
      const result = await look();
      good += result.good ? 1 : 0;
      this.list.append(
        h('li', { 'data-good': String(result.good) }, h('i', { class: 'dot', 'data-light': result.good ? 'ok' : 'bad' }), h('b', {}, result.name), ' ', h('span', { class: 'dim' }, `${(result.ms / 1000).toFixed(1)} s`), h('p', {}, visible(result.told))),
      );
    }
    this.summary.textContent = good === all.length ? `All ${all.length} checks passed.` : `${good} of ${all.length} checks passed.`;
    this.button.disabled = false;
  }
}
