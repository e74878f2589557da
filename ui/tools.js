// Every tool with what it can do, and what is missing where it cannot; and what was allowed for this session.
import { api } from './api.js';
import { byId, h, toast } from './dom.js';
import { asker, CLASSES, person, shown, visible } from './plain.js';

/** @typedef {import('./types').Tool} Tool */

export class ToolsView {
  /** @param {import('./approvals.js').Approvals} approvals */
  constructor(approvals) {
    this.approvals = approvals;
    this.list = byId('tools-list');
    this.search = /** @type {HTMLInputElement} */ (byId('tools-search'));
    this.only = /** @type {HTMLInputElement} */ (byId('tools-only'));
    /** @type {Tool[]} */
    this.tools = [];
    this.search.addEventListener('input', () => this.draw());
    this.only.addEventListener('change', () => this.draw());
  }

  async show() {
    this.drawGrants();
    try {
      const answer = await api('/api/tools');
      this.tools = answer.tools ?? [];
      byId('sandbox-mode').textContent = answer.sandbox ? `Sandbox: ${answer.sandbox}` : '';
      this.draw();
    } catch (error) {
      this.list.replaceChildren(h('li', { class: 'dim' }, /** @type {Error} */ (error).message));
    }
    await this.approvals.refresh();
    this.drawGrants();
  }

  draw() {
    const needle = this.search.value.trim().toLowerCase();
    const found = this.tools.filter((tool) => (!this.only.checked || tool.available) && (!needle || JSON.stringify(tool).toLowerCase().includes(needle)));
    const ready = this.tools.filter((tool) => tool.available).length;
    byId('tools-count').textContent = this.tools.length ? `${ready} of ${this.tools.length} can be used` : '';
    this.list.replaceChildren(...found.map((tool) => this.item(tool)));
    if (!found.length) this.list.append(h('li', { class: 'dim' }, 'No tool matches.'));
  }

  /** @param {Tool} tool */
  item(tool) {
    const actions = tool.actions ?? [];
    return h(
      'li',
      { class: `entry ${tool.available ? '' : 'absent'}`, 'data-id': tool.id },
      h('div', { class: 'entry-head' }, h('i', { class: 'dot', 'data-light': tool.available ? 'ok' : 'none' }), h('h3', {}, visible(tool.title || tool.id)), h('code', {}, visible(tool.id)), h('span', { class: 'chip' }, tool.available ? 'available' : 'not available')),
      h('p', {}, visible(tool.help ?? '')),
      tool.available ? null : h('p', { class: 'why' }, visible(tool.reason ?? 'Something is missing.')),
      !tool.available && tool.remedy ? h('p', { class: 'remedy' }, visible(tool.remedy)) : null,
      actions.length
        ? h('details', {}, h('summary', {}, actions.length === 1 ? 'one action' : `${actions.length} actions`), h('ul', { class: 'actions-list' }, ...actions.map((action) => this.action(tool, action))))
        : null,
    );
  }

  /** @param {Tool} tool @param {Tool['actions'][number]} action */
  action(tool, action) {
    const args = Object.entries(action.schema?.properties ?? {}).map(([name, about]) => `${name}${(action.schema?.required ?? []).includes(name) ? '' : '?'}${about?.type ? `: ${about.type}` : ''}`);
    return h(
      'li',
      {},
      h('div', { class: 'entry-head' }, h('code', {}, visible(`${tool.id}.${action.name}`)), h('span', { class: `chip ${action.class}` }, CLASSES[action.class] ?? action.class)),
      h('p', {}, visible(action.help ?? '')),
      args.length ? h('p', { class: 'dim mono' }, visible(args.join(', '))) : null,
    );
  }

  drawGrants() {
    const { grants } = this.approvals;
    byId('grants').hidden = !grants.length;
    byId('grants-list').replaceChildren(
      ...grants.map((grant) =>
        h(
          'li',
          {},
          h('span', {}, h('code', {}, shown(grant.signature)), ` for ${asker(grant.session)}, by ${person(grant.by)}`),
          h('button', { type: 'button', class: 'small', 'aria-label': `Revoke ${grant.signature}`, onclick: () => void this.revoke(grant) }, 'Revoke'),
        ),
      ),
    );
  }

  /** @param {import('./types').Grant} grant */
  async revoke(grant) {
    try {
      await api('/api/approvals/revoke', { session: grant.session, signature: grant.signature });
    } catch (error) {
      toast(/** @type {Error} */ (error).message, 'error');
    }
    await this.approvals.refresh();
    this.drawGrants();
    byId('tools-title').focus();
  }
}
