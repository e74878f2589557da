// Machines that ask to join the cluster: who they are, what became of them, and a yes or no of somebody who may give it.
import { api } from './api.js';
import { ask, byId, h, toast } from './dom.js';
import { visible } from './plain.js';

/** @typedef {{id: string, hostname: string, address: string, cpu: string, ram_mb: number, fingerprint: string|null, status: string, step: string, message: string}} Join */

/** Those that may be said yes to. */
const WAITING = ['pending', 'failed'];
const GONE = ['joined', 'refused'];

export class Joins {
  constructor() {
    this.box = byId('cluster-joins');
    this.body = /** @type {HTMLElement} */ (this.box.querySelector('.body'));
    this.note = /** @type {HTMLElement} */ (this.box.querySelector('.age'));
  }

  async refresh() {
    try {
      const { nodes, there, may_answer: mayAnswer, problem } = /** @type {{nodes: Join[], there: boolean, may_answer: boolean, problem: string|null}} */ (await api('/api/cluster/joins'));
      // Where nobody can be asked there is nothing to show; where somebody does not answer, what was known stays.
      if (problem && there) this.say(problem);
      else this.draw(nodes, mayAnswer);
    } catch (error) {
      this.say(/** @type {Error} */ (error).message);
    }
  }

  /** @param {string} text */
  say(text) {
    this.box.hidden = this.box.hidden && !text;
    this.note.textContent = text;
    this.note.classList.toggle('why', Boolean(text));
  }

  /** Drawn anew only when it says something else: a button must not go away under a finger. @param {Join[]} nodes @param {boolean} mayAnswer */
  draw(nodes, mayAnswer) {
    const shown = [...nodes.filter((node) => !GONE.includes(node.status)), ...nodes.filter((node) => GONE.includes(node.status))];
    const key = JSON.stringify([shown, mayAnswer]);
    this.box.hidden = shown.length === 0;
    this.say('');
    if (this.body.dataset.key === key) return;
    this.body.dataset.key = key;
    this.body.replaceChildren(h('ul', { class: 'entries' }, ...shown.map((node) => this.item(node, mayAnswer))));
  }

  /** @param {Join} node @param {boolean} mayAnswer */
  item(node, mayAnswer) {
    const name = visible(node.hostname);
    const waits = WAITING.includes(node.status);
    const facts = [node.address, node.cpu, node.ram_mb ? `${(node.ram_mb / 1024).toFixed(1)} GB` : ''].filter(Boolean).map(visible).join(' · ');
    const light = node.status === 'joined' ? 'ok' : ['failed', 'refused'].includes(node.status) ? 'bad' : 'busy';
    const progress = [node.step, node.message].filter(Boolean).map(visible).join(': ');
    return h(
      'li',
      { class: 'entry', 'data-id': node.id },
      h('div', { class: 'entry-head' }, h('i', { class: 'dot', 'data-light': light }), h('h4', {}, name), h('span', { class: 'dim' }, facts), h('span', { class: 'chip' }, visible(node.status))),
      progress ? h('p', { class: node.status === 'failed' ? 'why' : 'dim' }, progress) : null,
      waits && node.fingerprint ? h('p', { class: 'remedy' }, 'Is it the one? On that machine ', h('code', {}, 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub'), ' must say ', h('code', { class: 'fingerprint' }, visible(node.fingerprint))) : null,
      waits && mayAnswer
        ? h(
            'span',
            { class: 'pair' },
            h('button', { type: 'button', class: 'small primary', 'aria-label': `Approve ${name}`, onclick: () => void this.decide(node, 'approve') }, 'Approve'),
            h('button', { type: 'button', class: 'small', 'aria-label': `Refuse ${name}`, onclick: () => void this.decide(node, 'refuse') }, 'Refuse'),
          )
        : null,
      waits && !mayAnswer ? h('p', { class: 'dim' }, 'An approver can let it in: log in under Access, or on a controller ', h('code', {}, `sudo choir nodes approve ${name}`)) : null,
    );
  }

  /** @param {Join} node @param {'approve'|'refuse'} what */
  async decide(node, what) {
    const name = visible(node.hostname);
    const title = what === 'approve' ? `Let ${name} into the cluster? It gets the cluster’s keys and work.` : `Refuse ${name}?`;
    if ((await ask({ title, ok: what === 'approve' ? 'Approve' : 'Refuse', danger: what === 'refuse' })) === null) return;
    try {
      await api(`/api/cluster/joins/${what}`, { id: node.id });
      toast(what === 'approve' ? `${name} may come in; it provisions itself now.` : `${name} was refused.`);
    } catch (error) {
      toast(/** @type {Error} */ (error).message, 'error');
    }
    await this.refresh();
    byId('cluster-title').focus();
  }
}
