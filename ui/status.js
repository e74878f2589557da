// Status tiles from GET /api/status: what runs, on what, and what is missing, why, and what to do about it.
import { api } from './api.js';
import { byId, formatBytes, formatSpan, h, icon } from './dom.js';
import { visible } from './plain.js';

/** @typedef {import('./types').Status} Status */

const CALM_MS = 5000;
const BUSY_MS = 1000;

/** A progress as 0..1 or in percent, if it is a number. @param {unknown} value @returns {number|null} */
export function percent(value) {
  if (typeof value !== 'number' || value < 0) return null;
  return Math.round(Math.min(100, value <= 1 ? value * 100 : value));
}

/** What the model is doing while it is not ready, in a few words. @param {NonNullable<Status['model']>} model */
export function loadingWords(model) {
  const done = percent(model.progress);
  const words = typeof model.progress === 'string' && model.progress ? model.progress : model.state || 'starting';
  return done !== null && done < 100 ? `${words} ${done} %` : words;
}

/** @param {Status|null} status */
export function modelReady(status) {
  return ['ready', 'ok', 'warm', 'running'].includes(status?.model?.state ?? '');
}

export class StatusPanel {
  /** @param {{changed: (status: Status) => void, chooseModel: () => void}} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    this.tiles = byId('tiles');
    this.missing = byId('missing');
    this.uptime = byId('uptime');
    /** @type {Status|null} */
    this.status = null;
    /** What the voice session says about its sound: a longer lead after underruns. */
    this.sound = '';
    this.timer = 0;
    this.asking = false;
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') void this.refresh();
    });
  }

  /** What is shown is of the past. */
  stale() {
    this.tiles.classList.add('stale');
  }

  async refresh() {
    clearTimeout(this.timer);
    if (this.asking) return;
    this.asking = true;
    try {
      this.status = /** @type {Status} */ (await api('/api/status'));
      this.draw(this.status);
      this.handlers.changed(this.status);
      this.tiles.classList.remove('stale');
    } catch {
      this.stale();
    }
    this.asking = false;
    const busy = this.status?.fetch || !modelReady(this.status);
    // A hidden page asks nothing.
    if (document.visibilityState !== 'hidden') this.timer = window.setTimeout(() => void this.refresh(), busy ? BUSY_MS : CALM_MS);
  }

  /** @param {Status} s */
  draw(s) {
    this.uptime.textContent = `${s.version ? `Choir ${s.version} · ` : ''}up ${formatSpan(s.uptime_s ?? 0)}`;
    const held = document.activeElement?.id;
    this.tiles.replaceChildren(...this.modelTile(s), ...this.engineTiles(s), ...this.machineTiles(s));
    this.missing.replaceChildren(
      ...(s.missing ?? []).map((part) =>
        h('div', { class: 'notice' }, icon('alert'), h('div', {}, h('strong', {}, `Missing: ${part.what}`), h('p', {}, part.why), part.remedy ? h('p', { class: 'remedy' }, part.remedy) : null)),
      ),
    );
    // The tiles are drawn anew; the keyboard's place must survive that.
    if (held && document.activeElement === document.body) document.getElementById(held)?.focus();
  }

  /** @param {Status} s */
  modelTile(s) {
    const m = s.model;
    if (!m) return [];
    const ready = modelReady(s);
    const done = percent(m.progress);
    const change = h('button', { type: 'button', class: 'small', id: 'choose-model', onclick: () => this.handlers.chooseModel() }, 'Change…');
    const facts = [m.threads && `${m.threads} ${m.threads === 1 ? 'thread' : 'threads'}`, m.batch && `batch ${m.batch}`].filter(Boolean).join(' · ');
    const state = ready ? facts || 'ready' : loadingWords(m);
    const tile = this.tile('Language model', m.name || 'none', state, { light: ready ? 'ok' : this.bad(m.state) ? 'bad' : 'busy', wide: true });
    tile.append(change);
    if (!ready && done !== null) tile.append(h('progress', { max: 100, value: done, 'aria-label': 'Model loading' }));
    const cpu = m.variant ? [this.tile('Processor code', m.variant, m.variant_why ?? m.why ?? '', { wide: true })] : [];
    return [tile, ...cpu];
  }

  /** @param {string|undefined} state */
  bad(state) {
    return /fail|error|dead|missing|stopped|backoff/.test(state ?? '');
  }

  /** @param {Status} s */
  engineTiles(s) {
    const names = { vad: 'Hears you', stt: 'Understands', tts: 'Speaks' };
    const rows = Object.entries(names).flatMap(([key, label]) => {
      const engine = s.engines?.[/** @type {'vad'|'stt'|'tts'} */ (key)];
      if (!engine) return [];
      const done = percent(engine.progress);
      const state = engine.ready ? engine.detail || 'ready' : engine.detail || (done === null ? 'not ready' : `loading ${done} %`);
      const light = engine.ready ? 'ok' : engine.engine ? 'busy' : 'bad';
      return [h('tr', { title: state }, h('td', {}, h('i', { class: 'dot', 'data-light': light }), label), h('td', { class: 'strong' }, engine.engine || 'none'), h('td', { class: 'clip' }, state))];
    });
    if (s.card && s.card.microphone !== 'off') rows.push(this.cardRow(s.card));
    if (!rows.length) return [];
    return [h('div', { class: 'tile wide' }, h('p', { class: 'tile-label' }, 'Speech'), h('table', { class: 'rows' }, h('tbody', {}, ...rows)))];
  }

  /** @param {NonNullable<Status['card']>} card */
  cardRow(card) {
    const state = card.ready ? card.state || 'ready' : card.detail || 'not ready';
    return h('tr', { title: card.detail ?? '' }, h('td', {}, h('i', { class: 'dot', 'data-light': card.ready ? 'ok' : 'busy' }), 'Here'), h('td', { class: 'strong' }, card.microphone), h('td', { class: 'clip' }, state));
  }

  /** @param {Status} s */
  machineTiles(s) {
    const children = s.children ?? [];
    const all = children.reduce((sum, child) => sum + (child.rss_kb || 0), s.memory_kb || 0);
    const tiles = [
      this.tile('Waiting turns', String(s.queue ?? 0), `${s.sessions ?? 0} voice ${s.sessions === 1 ? 'session' : 'sessions'}`, {}),
      this.tile('Memory', formatBytes(all * 1000), `${formatBytes((s.memory_kb ?? 0) * 1000)} of it the daemon`, {}),
    ];
    if (s.standby) tiles.push(this.copiesTile(s.standby));
    if (this.sound) tiles.push(this.tile('Sound', this.sound, '', { light: 'busy', wide: true }));
    if (s.log_drops) tiles.push(this.tile('Log lines dropped', String(s.log_drops), 'the log was too fast', { light: 'busy', wide: true }));
    if ((s.loop_lag_ms ?? 0) > 100) tiles.push(this.tile('Loop lag', `${Math.round(s.loop_lag_ms ?? 0)} ms`, 'the machine is busy', { light: 'busy', wide: true }));
    if (children.length) tiles.push(this.childrenTile(children));
    return tiles;
  }

  /** Which other nodes keep what was said, and what the last takeover has lost. @param {NonNullable<Status['standby']>} standby */
  copiesTile({ copies, behind, taken }) {
    const names = copies.filter((copy) => copy.age_s !== null).map((copy) => visible(copy.node || copy.url));
    const late = behind ? `${behind} ${behind === 1 ? 'turn' : 'turns'} behind` : '';
    const lost = taken ? `taken over from ${visible(taken.from)}; turns lost: ${taken.lost ?? 'not known'}` : '';
    return this.tile('Kept on other nodes', names.join(', ') || 'none', [late, lost].filter(Boolean).join('; '), { light: names.length && !behind ? 'ok' : 'busy', wide: true });
  }

  /** @param {import('./types').Child[]} children */
  childrenTile(children) {
    const rows = children.map((child) => {
      const good = /run|ready|ok|up/.test(child.state);
      return h(
        'tr',
        { title: child.error ?? '' },
        h('td', {}, h('i', { class: 'dot', 'data-light': good ? 'ok' : this.bad(child.state) ? 'bad' : 'busy' }), child.name),
        h('td', {}, child.error && !good ? child.error : child.state),
        h('td', {}, child.restarts ? `${child.restarts}× restarted` : ''),
        h('td', { class: 'num' }, formatBytes((child.rss_kb || 0) * 1000)),
      );
    });
    return h('div', { class: 'tile wide' }, h('p', { class: 'tile-label' }, 'Processes'), h('table', { class: 'rows' }, h('tbody', {}, ...rows)));
  }

  /** @param {string} label @param {string} value @param {string} note @param {{light?: string, wide?: boolean}} more */
  tile(label, value, note, { light, wide }) {
    return h(
      'div',
      { class: `tile${wide ? ' wide' : ''}` },
      h('p', { class: 'tile-label' }, light ? h('i', { class: 'dot', 'data-light': light }) : null, label),
      h('p', { class: 'tile-value', title: value }, value),
      note ? h('p', { class: 'tile-note', title: note }, note) : null,
    );
  }
}
