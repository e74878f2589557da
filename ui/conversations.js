// The list of conversations: new, open, rename, delete, export.
import { api } from './api.js';
import { ask, byId, formatDay, h, icon, toast } from './dom.js';

/** @typedef {import('./types').ConversationSummary} Summary */

export class Conversations {
  /**
   * @param {{opened: () => void, isEmpty: () => boolean}} handlers opened: the person chose one, a phone's drawer may
   *   close; isEmpty: nothing has been said in the open one
   */
  constructor(handlers) {
    this.list = byId('conversations');
    this.handlers = handlers;
    /** @type {string} */
    this.current = '';
    byId('new-conversation').addEventListener('click', () => {
      // An empty one is new enough; a second would only litter the list.
      if (handlers.isEmpty()) handlers.opened();
      else void this.act(() => api('/api/conversations', {}), true);
      byId('message-input').focus();
    });
  }

  async refresh() {
    try {
      const answer = await api('/api/conversations');
      this.current = String(answer.current ?? '');
      this.show(answer.conversations ?? []);
    } catch (error) {
      if (!this.list.children.length) this.list.replaceChildren(h('li', { class: 'dim' }, /** @type {Error} */ (error).message));
    }
  }

  /** @param {() => Promise<unknown>} action @param {boolean} [opens] */
  async act(action, opens = false) {
    try {
      await action();
      if (opens) this.handlers.opened();
    } catch (error) {
      toast(/** @type {Error} */ (error).message, 'error');
    }
    await this.refresh();
  }

  /** @param {Summary[]} conversations */
  show(conversations) {
    this.list.replaceChildren(...conversations.map((one) => this.item(one)));
    if (!conversations.length) this.list.append(h('li', { class: 'dim' }, 'Nothing yet. Say something.'));
  }

  /** @param {Summary} one */
  item(one) {
    const id = String(one.id);
    const path = `/api/conversations/${encodeURIComponent(id)}`;
    const title = one.title || 'Untitled';
    const isCurrent = id === this.current;
    const open = h(
      'button',
      { type: 'button', class: 'open', 'aria-current': isCurrent ? 'true' : undefined, title, onclick: () => void this.act(() => api(`${path}/open`, {}), true) },
      h('span', { class: 'title' }, title),
      h('span', { class: 'dim' }, `${one.turns} ${one.turns === 1 ? 'turn' : 'turns'} · ${formatDay(one.updated)}`),
    );
    const rename = async () => {
      const next = await ask({ title: 'Rename the conversation', ok: 'Rename', value: title });
      if (next && next !== title) await this.act(() => api(`${path}/rename`, { title: next }));
    };
    const remove = async () => {
      const yes = await ask({ title: `Delete “${title}”? It cannot be brought back.`, ok: 'Delete', danger: true });
      if (yes !== null) await this.act(() => api(`${path}/delete`, {}));
    };
    return h(
      'li',
      { class: isCurrent ? 'current' : '', 'data-id': id },
      open,
      h(
        'span',
        { class: 'actions' },
        h('button', { type: 'button', class: 'icon-button', 'aria-label': `Rename ${title}`, title: 'Rename', onclick: () => void rename() }, icon('edit')),
        h('a', { class: 'icon-button', href: `${path}/export`, download: `conversation-${id}.json`, 'aria-label': `Export ${title}`, title: 'Export' }, icon('save')),
        h('button', { type: 'button', class: 'icon-button', 'aria-label': `Delete ${title}`, title: 'Delete', onclick: () => void remove() }, icon('trash')),
      ),
    );
  }
}
