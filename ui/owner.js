// Who may do what: the first owner, logging in and out, people and keys.
import { api } from './api.js';
import { ask, byId, formatDay, h, icon, toast } from './dom.js';
import { visible } from './plain.js';

/** @typedef {import('./types').Me} Me */

export class Owner {
  /** @param {(there: boolean) => void} offer the server knows of owners */
  constructor(offer) {
    this.offer = offer;
    this.dialog = /** @type {HTMLDialogElement} */ (byId('login-dialog'));
    /** @type {Me|null} null: not known, or a server without owners */
    this.me = null;
    addEventListener('choir-login', () => void this.loginNeeded());
    this.form('login-form', '/api/login', ['name', 'password']);
    this.form('setup-form', '/api/setup', ['code', 'name', 'password']);
    byId('login-cancel').addEventListener('click', () => this.dialog.close());
    byId('login-open').addEventListener('click', () => this.login());
    byId('approvals-login').addEventListener('click', () => this.login());
    byId('logout').addEventListener('click', () => void this.logout());
    byId('person-form').addEventListener('submit', (event) => void this.add(event, '/api/people', ['name', 'role', 'password']));
    byId('key-form').addEventListener('submit', (event) => void this.add(event, '/api/tokens', ['name', 'role']));
  }

  async refresh() {
    try {
      this.me = /** @type {Me} */ (await api('/api/me'));
    } catch (error) {
      // Without an answer nothing has changed; a server without the route has no owners.
      if (/** @type {import('./api.js').ApiError} */ (error).status === 404) this.offer(false);
      return;
    }
    this.offer(true);
    this.draw();
  }

  /** The server wants to know who we are; asked once, however many requests were refused. */
  async loginNeeded() {
    if (this.dialog.open) return;
    await this.refresh();
    if (this.me?.owner_exists && !this.me.logged_in) this.login();
  }

  login() {
    if (this.dialog.open) return;
    this.dialog.showModal();
    byId('login-name').focus();
  }

  /** @param {string} id @param {string} path @param {string[]} names */
  form(id, path, names) {
    const form = /** @type {HTMLFormElement} */ (byId(id));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.submit(form, path, names);
    });
  }

  /** @param {HTMLFormElement} form @param {string} path @param {string[]} names */
  async submit(form, path, names) {
    const problem = /** @type {HTMLElement} */ (form.querySelector('.problem'));
    const again = /** @type {HTMLInputElement|null} */ (form.querySelector('[name=again]'));
    const button = /** @type {HTMLButtonElement} */ (form.querySelector('[type=submit]'));
    problem.textContent = '';
    if (again && again.value !== field(form, 'password').value) {
      problem.textContent = 'The two passwords are not the same.';
      again.focus();
      return;
    }
    button.disabled = true;
    try {
      await api(path, Object.fromEntries(names.map((name) => [name, field(form, name).value])));
      // Every socket of the page was opened as somebody else.
      location.reload();
    } catch (error) {
      problem.textContent = /** @type {Error} */ (error).message;
      field(form, names[0]).focus();
    }
    button.disabled = false;
  }

  async logout() {
    try {
      await api('/api/logout', {});
    } catch (error) {
      toast(/** @type {Error} */ (error).message, 'error');
      return;
    }
    // What was on the page belongs to who left.
    location.reload();
  }

  async show() {
    await this.refresh();
    if (this.me?.role === 'owner' && this.me.owner_exists) await Promise.all([this.list('/api/people', 'people'), this.list('/api/tokens', 'tokens')]);
  }

  draw() {
    const { me } = this;
    if (!me) return;
    byId('me').textContent = me.logged_in ? `You are ${visible(me.name)}, ${me.role}.` : me.owner_exists ? 'You are not logged in.' : 'Nobody owns this Choir yet: whoever uses this machine may talk to it, and only a terminal may say yes to what it asks.';
    byId('setup-form').hidden = me.owner_exists;
    byId('login-open').hidden = !me.owner_exists || me.logged_in;
    byId('logout').hidden = !me.logged_in;
    byId('approvals-login').hidden = !me.owner_exists || me.logged_in;
    const lan = byId('lan');
    lan.hidden = !me.lan;
    lan.textContent = me.tls_port ? `Reached from the house at port ${me.tls_port} with TLS.` : 'Reached from the house.';
    byId('keepers').hidden = me.role !== 'owner' || !me.owner_exists;
  }

  /** @param {string} path @param {'people'|'tokens'} key */
  async list(path, key) {
    const box = byId(`${key}-list`);
    try {
      const answer = await api(path);
      box.replaceChildren(...(answer[key] ?? []).map((/** @type {any} */ one) => this.row(path, key, one)));
      if (!box.children.length) box.append(h('li', { class: 'dim' }, 'none'));
    } catch (error) {
      box.replaceChildren(h('li', { class: 'dim' }, /** @type {Error} */ (error).message));
    }
  }

  /** @param {string} path @param {'people'|'tokens'} key @param {{name: string, role: string, created?: unknown, used?: unknown}} one */
  row(path, key, one) {
    const name = visible(one.name);
    const word = key === 'people' ? 'Remove' : 'Revoke';
    const remove = async () => {
      if ((await ask({ title: `${word} ${name}? ${key === 'people' ? 'They are logged out at once.' : 'What uses this key stops at once.'}`, ok: word, danger: true })) === null) return;
      await this.act(() => api(`${path}/${key === 'people' ? 'remove' : 'revoke'}`, { name: one.name }));
    };
    const marks = [one.role, one.created ? `since ${formatDay(one.created)}` : '', one.used ? `used ${formatDay(one.used)}` : ''].filter(Boolean).join(' · ');
    return h('li', { class: 'entry fact' }, h('div', {}, h('p', {}, name), h('p', { class: 'dim' }, marks)), h('button', { type: 'button', class: 'icon-button', 'aria-label': `${word} ${name}`, title: word, onclick: () => void remove() }, icon('trash')));
  }

  /** @param {Event} event @param {string} path @param {string[]} names */
  async add(event, path, names) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const answer = await this.act(() => api(path, Object.fromEntries(names.map((name) => [name, field(form, name).value]))));
    if (!answer) return;
    form.reset();
    if (answer.token) {
      byId('new-key').hidden = false;
      byId('new-key-text').textContent = answer.token;
      byId('new-key-text').focus();
    }
  }

  /** @param {() => Promise<any>} action */
  async act(action) {
    try {
      const answer = await action();
      await this.show();
      return answer ?? {};
    } catch (error) {
      toast(/** @type {Error} */ (error).message, 'error');
      return null;
    }
  }
}

/** @param {HTMLFormElement} form @param {string} name */
function field(form, name) {
  return /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
}
