// What a person may change about sound and face; the browser keeps it.
import { byId, prefs } from './dom.js';

/** @typedef {import('./types').SoundOptions} SoundOptions */
/** @typedef {import('./types').Route} Route */

const ROUTES = ['auto', 'element', 'peer', 'direct'];
/** What a browser says of the microphone's track, in words. @type {Record<string, string>} */
const ECHO = {
  true: 'The browser cancels echo.',
  all: 'The browser cancels the echo of everything it plays.',
  'remote-only': 'The browser cancels only the echo of calls; replies are played as one.',
  false: 'The browser does not cancel echo.',
};

export class Settings {
  /** @param {(settings: Settings) => void} changed */
  constructor(changed) {
    this.changed = changed;
    /** @type {SoundOptions} */
    this.sound = { echo: prefs.get('echo') !== 'no', noise: prefs.get('noise') !== 'no', route: 'auto' };
    const route = prefs.get('route') ?? 'auto';
    if (ROUTES.includes(route)) this.sound.route = /** @type {Route} */ (route);
    this.still = prefs.get('motion') === 'no';
    this.dialog = /** @type {HTMLDialogElement} */ (byId('settings-dialog'));
    byId('settings-close').addEventListener('click', () => this.dialog.close());
    this.wire('set-echo', this.sound.echo, 'echo', (on) => (this.sound = { ...this.sound, echo: on }));
    this.wire('set-noise', this.sound.noise, 'noise', (on) => (this.sound = { ...this.sound, noise: on }));
    this.wire('set-motion', !this.still, 'motion', (on) => (this.still = !on));
    const select = /** @type {HTMLSelectElement} */ (byId('set-route'));
    select.value = this.sound.route;
    select.addEventListener('change', () => {
      this.sound = { ...this.sound, route: /** @type {Route} */ (select.value) };
      prefs.set('route', select.value === 'auto' ? null : select.value);
      this.changed(this);
    });
  }

  /** @param {string} id @param {boolean} on @param {string} key @param {(on: boolean) => void} set */
  wire(id, on, key, set) {
    const box = /** @type {HTMLInputElement} */ (byId(id));
    box.checked = on;
    box.addEventListener('change', () => {
      set(box.checked);
      prefs.set(key, box.checked ? null : 'no');
      this.changed(this);
    });
  }

  /** @param {string} echo what the open microphone's track says, '' when there is none */
  open(echo) {
    byId('settings-now').textContent = ECHO[echo] ?? '';
    this.dialog.showModal();
  }
}
