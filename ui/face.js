// The drawn face: an old monitor with eyes and a mouth on its screen. Art of this project. It is drawn once; states are
// CSS classes, and single attributes follow the sound. Nothing runs while it is idle except one timer that blinks.
import { byId, svg } from './dom.js';

/** @typedef {'offline'|'idle'|'listening'|'thinking'|'speaking'|'error'} FaceState */

const SAYS = {
  offline: 'Choir is not connected',
  idle: 'Choir is idle',
  listening: 'Choir is listening',
  thinking: 'Choir is thinking',
  speaking: 'Choir is speaking',
  error: 'Choir reports an error',
};
/** Mouth and ears follow the sound at most this often. */
const MOVE_MS = 60;

export class Face {
  constructor() {
    this.box = byId('robot-art');
    this.mouth = svg('path', { class: 'mouth' });
    this.eyes = svg('g', { class: 'eyes' }, svg('rect', { class: 'eye', x: 66, y: 62, width: 16, height: 26, rx: 8 }), svg('rect', { class: 'eye', x: 118, y: 62, width: 16, height: 26, rx: 8 }));
    this.waves = svg('g', { class: 'waves' }, ...this.arcs());
    this.box.append(this.draw());
    /** @type {FaceState} */
    this.state = 'offline';
    this.moved = 0;
    this.still = matchMedia('(prefers-reduced-motion: reduce)');
    this.timer = 0;
    this.set('offline', true);
    this.blinkLater();
  }

  draw() {
    const path = (/** @type {string} */ d, /** @type {string} */ name) => svg('path', { d, class: name });
    return svg(
      'svg',
      { viewBox: '0 0 200 190', 'aria-hidden': 'true', focusable: 'false' },
      this.waves,
      // Stand, case, bezel, screen.
      path('M82 152h36l5 18H77z', 'case-dark'),
      svg('rect', { class: 'case-dark', x: 58, y: 168, width: 84, height: 11, rx: 5.5 }),
      svg('rect', { class: 'case', x: 26, y: 16, width: 148, height: 140, rx: 26 }),
      path('M52 16h96a26 26 0 0 1 26 26v4a26 26 0 0 0-26-26H52a26 26 0 0 0-26 26v-4a26 26 0 0 1 26-26z', 'case-light'),
      svg('rect', { class: 'screen', x: 40, y: 30, width: 120, height: 98, rx: 18 }),
      path('M58 30h70l-34 98H58a18 18 0 0 1-18-18V48a18 18 0 0 1 18-18z', 'glass'),
      // Small things that make it an old machine: a lamp, vents, a key.
      svg('circle', { class: 'lamp', cx: 150, cy: 142, r: 4 }),
      path('M46 142h8M60 142h8M74 142h8', 'vents'),
      svg('g', { class: 'features' }, this.eyes, path('M64 66l20 20M84 66 64 86M116 66l20 20M136 66l-20 20', 'crossed'), path('M62 78q12 9 24 0M114 78q12 9 24 0', 'closed'), this.mouth),
      svg('g', { class: 'bubbles' }, svg('circle', { cx: 82, cy: 108, r: 4.5 }), svg('circle', { cx: 100, cy: 108, r: 4.5 }), svg('circle', { cx: 118, cy: 108, r: 4.5 })),
    );
  }

  arcs() {
    return [
      svg('path', { d: 'M16 66q-8 20 0 40M184 66q8 20 0 40' }),
      svg('path', { d: 'M5 56q-12 30 0 60M195 56q12 30 0 60' }),
    ];
  }

  /** @param {FaceState} state @param {boolean} [force] */
  set(state, force = false) {
    if (state === this.state && !force) return;
    this.state = state;
    this.box.dataset.face = state;
    this.box.setAttribute('aria-label', SAYS[state]);
    this.mouthOpen(0, true);
    this.hear(0, true);
  }

  /** @param {number} level of the reply's sound, 0..1 */
  mouthOpen(level, force = false) {
    if (!force && !this.mayMove()) return;
    // Speech lies near 0.05..0.25 rms; the root makes quiet sounds visible.
    const open = this.state === 'speaking' ? Math.min(1, Math.sqrt(level) * 1.9) : 0;
    const width = 17 - 4 * open;
    const drop = 15 * open;
    const curve = this.state === 'error' ? -7 : this.state === 'listening' ? 6 : 8;
    this.mouth.setAttribute(
      'd',
      open > 0.04
        ? `M${100 - width} 106q${width} ${-drop * 0.35} ${2 * width} 0q${-width * 0.1} ${drop + 6} ${-width} ${drop + 6}t${-width} ${-drop - 6}z`
        : `M${100 - 17} ${106 - curve / 4}q17 ${curve} 34 0`,
    );
    this.mouth.classList.toggle('open', open > 0.04);
  }

  /** @param {number} level of the microphone, 0..1 */
  hear(level, force = false) {
    if (!force && !this.mayMove()) return;
    const strength = Math.min(1, Math.sqrt(level) * 2.2);
    const [near, far] = this.waves.children;
    near.setAttribute('opacity', String(Math.min(1, strength * 1.8)));
    far.setAttribute('opacity', String(Math.max(0, strength * 1.8 - 0.7)));
  }

  mayMove() {
    const now = performance.now();
    if (now - this.moved < MOVE_MS || this.still.matches) return false;
    this.moved = now;
    return true;
  }

  blinkLater() {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => {
      if (!document.hidden && !this.still.matches) {
        this.eyes.classList.add('blink');
        setTimeout(() => this.eyes.classList.remove('blink'), 130);
      }
      this.blinkLater();
    }, 3500 + Math.random() * 4000);
  }
}
