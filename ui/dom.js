// Elements are built from text and attributes only: nothing here can turn a string into markup.

/**
 * @template {Element} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page lacks #${id}`);
  return /** @type {T} */ (/** @type {unknown} */ (element));
}

/**
 * h('button', {class: 'small', onclick: f}, 'Use')
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [attributes] on… are listeners, true/false set or drop the attribute
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children) if (child || child === '') element.append(child);
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/**
 * @param {string} tag
 * @param {Record<string, string|number>} [attributes]
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return /** @type {SVGElement} */ (element);
}

/** @param {string} name of a symbol in index.html, without "i-" */
export function icon(name) {
  return svg('svg', { 'aria-hidden': 'true' }, svg('use', { href: `#i-${name}` }));
}

/** @param {Element} button @param {string} name */
export function setIcon(button, name) {
  button.querySelector('use')?.setAttribute('href', `#i-${name}`);
}

/** @param {number} bytes */
export function formatBytes(bytes) {
  if (!Number.isFinite(bytes) || bytes <= 0) return '0 B';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

/** @param {number} seconds */
export function formatSpan(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/**
 * A server's time: seconds, milliseconds or microseconds since 1970, or an ISO text.
 * @param {unknown} value
 * @returns {Date|null}
 */
export function toDate(value) {
  if (typeof value === 'number' && value > 0) {
    if (value > 1e14) return new Date(value / 1000);
    return new Date(value > 1e11 ? value : value * 1000);
  }
  if (typeof value === 'string' && value) {
    const date = new Date(value);
    return Number.isNaN(date.getTime()) ? null : date;
  }
  return null;
}

/** @param {unknown} value */
export function formatTime(value) {
  const date = toDate(value);
  return date ? date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }) : '';
}

/** @param {unknown} value */
export function formatDay(value) {
  const date = toDate(value);
  if (!date) return '';
  if (date.toDateString() === new Date().toDateString()) return formatTime(value);
  return date.toLocaleDateString([], { day: 'numeric', month: 'short' });
}

/** Preferences; a browser that forbids storage only forgets them. */
export const prefs = {
  /** @param {string} key @returns {string|null} */
  get(key) {
    try {
      return localStorage.getItem(`choir.${key}`);
    } catch {
      return null;
    }
  },
  /** @param {string} key @param {string|null} value */
  set(key, value) {
    try {
      if (value === null) localStorage.removeItem(`choir.${key}`);
      else localStorage.setItem(`choir.${key}`, value);
    } catch {
      // See above.
    }
  },
};

/**
 * A short message in the corner; errors stay longer.
 * @param {string} text
 * @param {'info'|'error'} [kind]
 */
export function toast(text, kind = 'info') {
  const box = byId('toasts');
  const same = [...box.children].find((child) => child.firstChild?.textContent === text);
  same?.remove();
  const close = h('button', { type: 'button', 'aria-label': 'Dismiss', class: 'icon-button' }, icon('close'));
  const element = h('div', { class: `toast ${kind}` }, h('span', {}, text), close);
  close.addEventListener('click', () => element.remove());
  box.append(element);
  while (box.children.length > 3) box.firstChild?.remove();
  setTimeout(() => element.remove(), kind === 'error' ? 12000 : 5000);
}

/**
 * Asks for a text or a yes in a dialog; null when dismissed.
 * @param {{title: string, ok: string, value?: string, danger?: boolean}} question value: undefined = only yes or no
 * @returns {Promise<string|null>}
 */
export function ask({ title, ok, value, danger = false }) {
  const dialog = /** @type {HTMLDialogElement} */ (byId('ask-dialog'));
  const input = /** @type {HTMLInputElement} */ (byId('ask-input'));
  const form = /** @type {HTMLFormElement} */ (byId('ask-form'));
  const okButton = byId('ask-ok');
  byId('ask-title').textContent = title;
  okButton.textContent = ok;
  okButton.classList.toggle('danger', danger);
  input.hidden = value === undefined;
  input.value = value ?? '';
  return new Promise((resolve) => {
    const cancel = () => dialog.close('');
    const done = () => {
      form.removeEventListener('submit', submit);
      byId('ask-cancel').removeEventListener('click', cancel);
      resolve(dialog.returnValue === 'ok' ? input.value.trim() : null);
    };
    /** @param {Event} event */
    const submit = (event) => {
      event.preventDefault();
      dialog.close('ok');
    };
    form.addEventListener('submit', submit);
    byId('ask-cancel').addEventListener('click', cancel);
    dialog.addEventListener('close', done, { once: true });
    dialog.returnValue = '';
    dialog.showModal();
    (input.hidden ? okButton : input).focus();
    if (!input.hidden) input.select();
  });
}
