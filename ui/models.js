// Language models: the banner that says when the model is weak, the list, and fetching a better one with one click.
import { api } from './api.js';
import { byId, formatBytes, h, icon, prefs, toast } from './dom.js';
import { percent } from './status.js';

/** The one-click choice stays below this: larger ones talk too slowly on the machines Choir is made for. */
const COMFORTABLE_MB = 2000;

/** @typedef {import('./types').Model} Model */
/** @typedef {import('./types').Status} Status */

export class Models {
  /** @param {() => void} onChange something was asked of the server: its status is worth a look */
  constructor(onChange) {
    this.onChange = onChange;
    this.dialog = /** @type {HTMLDialogElement} */ (byId('models-dialog'));
    this.list = byId('models');
    this.banner = byId('banner');
    /** @type {Model[]} */
    this.models = [];
    this.current = '';
    this.dismissed = false;
    /** @type {Status|null} */
    this.status = null;
    this.drawn = '';
    /** @type {string} what the model list was last loaded for */
    this.loadedFor = '';
    byId('models-close').addEventListener('click', () => this.dialog.close());
    this.dialog.addEventListener('click', (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  async show() {
    this.dialog.showModal();
    await this.refresh();
  }

  async refresh() {
    try {
      const answer = await api('/api/models');
      this.models = answer.models ?? [];
      this.current = answer.current ?? '';
    } catch (error) {
      if (this.dialog.open) this.list.replaceChildren(h('li', { class: 'dim' }, /** @type {Error} */ (error).message));
      return;
    }
    this.drawList();
    this.drawBanner();
  }

  /** @param {Status} status */
  async update(status) {
    const before = this.status;
    this.status = status;
    const ended = Boolean(before?.fetch) && (!status.fetch || Boolean(status.fetch.error) !== Boolean(before?.fetch?.error));
    const key = status.model?.name ?? '';
    if (ended || key !== this.loadedFor) {
      this.loadedFor = key;
      await this.refresh();
    } else {
      this.drawBanner();
      if (this.dialog.open && status.fetch) this.drawList();
    }
    await this.useWhenThere();
  }

  /** A fetch that was started to use the model goes on to use it, also after a reload of the page. */
  async useWhenThere() {
    const wanted = prefs.get('use');
    if (!wanted || this.status?.fetch?.name === wanted) return;
    const model = this.models.find((one) => one.name === wanted);
    if (model?.present) {
      prefs.set('use', null);
      await this.use(wanted);
    }
  }

  /** What one click offers: what is here already, else verified before unverified, then the larger. */
  get better() {
    const now = this.models.find((one) => one.name === this.current);
    return this.models
      .filter((one) => one.fits && one.memory_mb <= COMFORTABLE_MB && one.memory_mb > (now?.memory_mb ?? 0))
      .sort((a, b) => Number(b.present) - Number(a.present) || Number(b.verified) - Number(a.verified) || b.memory_mb - a.memory_mb)[0];
  }

  /** @param {string} name */
  async use(name) {
    try {
      await api('/api/models/use', { name });
      this.current = name;
      toast(`Changing to ${name}. It loads now.`);
      this.dialog.close();
    } catch (error) {
      toast(/** @type {Error} */ (error).message, 'error');
    }
    await this.refresh();
    this.onChange();
  }

  /** @param {string} name */
  async fetch(name) {
    try {
      prefs.set('use', name);
      await api('/api/models/fetch', { name });
      toast(`Fetching ${name}. It is used as soon as it is here.`);
    } catch (error) {
      prefs.set('use', null);
      toast(/** @type {Error} */ (error).message, 'error');
    }
    this.onChange();
  }

  drawBanner() {
    const status = this.status;
    const fetching = status?.fetch;
    const weak = status?.model?.weak && !this.dismissed;
    this.banner.hidden = !fetching && !weak;
    if (this.banner.hidden) return;
    const better = this.better;
    // Drawn anew only on a change, or the button would lose the keyboard's focus every second.
    const key = JSON.stringify([fetching, better?.name, better?.present, status?.model?.name, status?.model?.note]);
    if (key === this.drawn) return;
    this.drawn = key;
    this.banner.replaceChildren(...(fetching ? this.fetchBanner(fetching) : this.weakBanner(better)));
  }

  /** @param {NonNullable<Status['fetch']>} fetching */
  fetchBanner(fetching) {
    if (fetching.error) {
      return [
        icon('alert'),
        h('p', {}, `${fetching.name} could not be fetched: ${fetching.error}`),
        h('button', { type: 'button', class: 'small', onclick: () => void this.fetch(fetching.name) }, 'Try again'),
      ];
    }
    const total = fetching.total || 0;
    const done = total ? percent(fetching.done / total) : null;
    return [
      h('p', {}, `Fetching ${fetching.name}: ${formatBytes(fetching.done)}${total ? ` of ${formatBytes(total)}` : ''}`),
      h('progress', { max: 100, value: done ?? undefined, 'aria-label': 'Download' }),
      h('span', { class: 'num' }, done === null ? '' : `${done} %`),
    ];
  }

  /** @param {Model|undefined} better */
  weakBanner(better) {
    const name = this.status?.model?.name ?? 'This model';
    const close = h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Hide this notice' }, icon('close'));
    close.addEventListener('click', () => {
      this.dismissed = true;
      this.drawBanner();
    });
    const action = better
      ? h(
          'button',
          { type: 'button', class: 'small primary', id: 'better-model', onclick: () => void (better.present ? this.use(better.name) : this.fetch(better.name)) },
          better.present ? `Use ${better.name}` : `Get ${better.name} (${formatBytes(better.bytes)})`,
        )
      : h('button', { type: 'button', class: 'small', onclick: () => void this.show() }, 'See the list');
    return [icon('alert'), h('p', { title: this.status?.model?.note ?? '' }, `${name} is small and often wrong.`), action, close];
  }

  drawList() {
    this.list.replaceChildren(...this.models.map((model) => this.row(model)));
  }

  /** @param {Model} model */
  row(model) {
    const using = model.name === this.current;
    const fetching = this.status?.fetch?.name === model.name && !this.status.fetch.error ? this.status.fetch : null;
    const marks = [
      `${formatBytes(model.bytes)} file`,
      `needs ${formatBytes(model.memory_mb * 1e6)}`,
      !model.fits && 'too large for this machine',
      !model.verified && 'not tried by us yet',
      !model.dense && 'slower to start each turn',
    ].filter(Boolean);
    /** @type {Node} */
    let action;
    if (using) action = h('span', { class: 'chip' }, 'in use');
    else if (fetching) action = h('span', { class: 'chip' }, fetching.total ? `${percent(fetching.done / fetching.total)} %` : 'fetching');
    else if (model.present) action = h('button', { type: 'button', class: 'small primary', disabled: !model.fits, onclick: () => void this.use(model.name) }, 'Use');
    else action = h('button', { type: 'button', class: 'small', disabled: !model.fits || Boolean(this.status?.fetch && !this.status.fetch.error), onclick: () => void this.fetch(model.name) }, 'Get and use');
    return h('li', { class: using ? 'current' : '' }, h('div', {}, h('strong', {}, model.name), h('p', { class: 'dim' }, marks.join(' · ')), model.note ? h('p', {}, model.note) : null), action);
  }
}
