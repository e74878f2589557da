// The views of the middle: the conversation, or one of the others, named by the address (#tools), so that a reload and
// a bookmark come back to it.
import { byId } from './dom.js';

/** @typedef {{show: () => unknown, hide?: () => void}} View */

export class Views {
  /** @param {Record<string, View>} views @param {() => void} changed the person went somewhere else */
  constructor(views, changed) {
    this.views = views;
    this.changed = changed;
    this.now = 'talk';
    addEventListener('hashchange', () => this.go(true));
    addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || this.now === 'talk' || document.querySelector('dialog[open]')) return;
      // What is nearer goes first: a drawer, a reply that is spoken, a field that has something in it.
      if (document.body.dataset.drawer !== 'none' || !byId('stop-button').hidden || (event.target instanceof HTMLInputElement && event.target.value)) return;
      event.stopImmediatePropagation();
      location.hash = '#talk';
    });
    this.go(false);
  }

  get wanted() {
    const name = location.hash.slice(1);
    return name in this.views && !byId(`go-${name}`).hidden ? name : 'talk';
  }

  /** @param {boolean} asked by the person: the keyboard goes there too */
  go(asked) {
    const next = this.wanted;
    const changed = next !== this.now;
    if (changed) this.views[this.now]?.hide?.();
    this.now = next;
    document.body.dataset.view = next;
    for (const name of Object.keys(this.views)) if (name !== 'talk') byId(`view-${name}`).hidden = name !== next;
    for (const link of document.querySelectorAll('#views a')) {
      if (link.id === `go-${next}`) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
    if (changed) void this.views[next]?.show();
    if (asked) {
      this.changed();
      if (next !== 'talk') byId(`${next}-title`).focus();
      else if (changed || location.hash === '#message-input') byId('message-input').focus();
    }
  }

  /** A view's link comes or goes. @param {string} name @param {boolean} there */
  offer(name, there) {
    const link = byId(`go-${name}`);
    if (link.hidden === !there) return;
    link.hidden = !there;
    if (this.wanted !== this.now) this.go(false);
  }
}
