// The drawn face: an old monitor with eyes and a mouth on its screen. Art of this project. It is drawn once; states are
// CSS classes, and single attributes follow the sound. While it speaks a worker paints the mouth (mouth.js); otherwise
// nothing runs but one timer that blinks.
import { byId, svg } from './dom.js';
import { Lips, mouthPath } from './lips.js';
import { Mouth } from './mouth.js';

/** @typedef {'offline'|'idle'|'asleep'|'listening'|'thinking'|'speaking'|'paused'|'error'} FaceState */
/** @typedef {import('./types').Viseme} Viseme */

const SAYS = {
  offline: 'Choir is not connected',
  idle: 'Choir is idle',
  asleep: 'Choir is asleep',
  listening: 'Choir is listening',
  thinking: 'Choir is thinking',
  speaking: 'Choir is speaking',
  paused: 'Choir has paused',
  error: 'Choir reports an error',
};
/** Where there is no worker to paint the mouth: each of these frames is one of the whole page. */
const FRAME_MS = 100;
/** The rings that show the microphone, and the lamps that show the voice of a still face. */
const METER_MS = 200;
const LEVEL_MS = 60;
const LAMPS = 5;
/** How the corners of a closed mouth lie. @type {Record<string, number>} */
const CORNERS = { error: -7, listening: 6, paused: 1, asleep: 3, offline: 2 };

export class Face {
  /** @param {() => {item: string, sample: number}|null} clock what is heard now; null: nothing moves */
  constructor(clock) {
    this.clock = clock;
    this.box = byId('robot-art');
    this.lips = new Lips();
    const part = (/** @type {string} */ name) => svg('path', { class: name });
    this.mouth = part('mouth');
    this.teeth = part('teeth');
    this.tongue = part('tongue');
    const eye = (/** @type {number} */ x) => svg('g', { class: 'eye' }, svg('rect', { class: 'iris', x: x - 8.5, y: 60, width: 17, height: 28, rx: 8.5 }), svg('circle', { class: 'spark', cx: x + 3, cy: 67.5, r: 2.6 }));
    this.eyes = svg('g', { class: 'eyes' }, eye(74), eye(126));
    this.waves = svg('g', { class: 'waves' }, ...this.arcs());
    this.lamps = svg('g', { class: 'lamps' }, ...Array.from({ length: LAMPS }, (_, i) => svg('rect', { x: 46 + i * 12, y: 140, width: 8, height: 4, rx: 2 })));
    this.box.append(this.draw());
    this.painter = Mouth.make(this.box);
    /** @type {FaceState} */
    this.state = 'offline';
    this.level = 0;
    this.shown = '';
    this.lit = -1;
    this.meterAt = 0;
    this.levelAt = 0;
    this.hearAt = 0;
    /** Redraws since the page was opened. */
    this.draws = 0;
    this.motion = matchMedia('(prefers-reduced-motion: reduce)');
    this.quiet = false;
    this.timer = 0;
    this.blinkTimer = 0;
    this.set('offline', true);
    this.motion.addEventListener('change', () => this.set(this.state, true));
    document.addEventListener('visibilitychange', () => this.run());
    this.blinkLater();
  }

  /** Nothing moves: the system asks for it, or the person does. */
  get still() {
    return this.quiet || this.motion.matches;
  }

  /** @param {boolean} quiet */
  setQuiet(quiet) {
    this.quiet = quiet;
    this.box.classList.toggle('still', quiet);
    this.set(this.state, true);
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
      // Small things that make it an old machine: a lamp, and a row of them for the level of the voice.
      svg('circle', { class: 'lamp', cx: 150, cy: 142, r: 4 }),
      this.lamps,
      svg(
        'g',
        { class: 'features' },
        svg('g', { class: 'brows' }, path('M63 51q11-6 22-1', 'brow'), path('M115 50q11-5 22 1', 'brow')),
        this.eyes,
        path('M64 66l20 20M84 66 64 86M116 66l20 20M136 66l-20 20', 'crossed'),
        path('M62 78q12 9 24 0M114 78q12 9 24 0', 'closed'),
        this.mouth,
        this.tongue,
        this.teeth,
      ),
      svg('g', { class: 'bubbles' }, svg('circle', { cx: 82, cy: 108, r: 4.5 }), svg('circle', { cx: 100, cy: 108, r: 4.5 }), svg('circle', { cx: 118, cy: 108, r: 4.5 })),
      path('M128 47h8l-8 9h8M140 37h6l-6 7h6', 'snore'),
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
    if (state !== 'speaking') {
      this.lips.close();
      this.light(0);
      this.show();
    }
    this.hear(0, true);
    this.run();
  }

  /** Mouth shapes that belong to an item's sound. @param {string} item @param {Viseme[]} list */
  visemes(item, list) {
    this.lips.add(item, list);
    this.painter?.visemes(item, list);
  }

  /** @param {number} level of the reply's sound, 0..1 */
  mouthOpen(level) {
    this.level = level;
    if (this.state !== 'speaking') return;
    const now = performance.now();
    if (this.painter?.running) {
      const heard = this.clock();
      if (now - this.levelAt < LEVEL_MS && (heard?.item ?? '') === this.painter.clockKey) return;
      this.levelAt = now;
      this.painter.follow(heard, level);
    } else if (now - this.meterAt >= METER_MS) {
      this.meterAt = now;
      this.light(level);
    }
  }

  /** Starts or stops the timer that moves the mouth. */
  run() {
    const moves = this.state === 'speaking' && !this.still && !document.hidden;
    if (this.painter?.broken) this.painter = null;
    this.painter?.run(moves);
    const wanted = moves && !this.painter;
    if (wanted && !this.timer) this.timer = window.setInterval(() => this.frame(), FRAME_MS);
    else if (!wanted && this.timer) {
      clearInterval(this.timer);
      this.timer = 0;
    }
    if (this.still && this.state === 'speaking') {
      this.lips.close();
      this.show();
    }
  }

  frame() {
    const now = this.clock();
    this.lips.move(now, this.level, performance.now());
    this.show();
  }

  /** Draws the mouth if it is not that way already. */
  show() {
    const { shape } = this.lips;
    const drawn = mouthPath(shape, CORNERS[this.state] ?? 8);
    if (drawn.mouth === this.shown) return;
    this.shown = drawn.mouth;
    this.draws++;
    this.mouth.setAttribute('d', drawn.mouth);
    this.teeth.setAttribute('d', drawn.teeth);
    this.tongue.setAttribute('d', drawn.tongue);
    this.mouth.classList.toggle('open', drawn.open);
    if (this.mouth.getAttribute('data-viseme') !== this.lips.name) this.mouth.setAttribute('data-viseme', this.lips.name);
  }

  /** @param {number} level */
  light(level) {
    // Speech lies near 0.05..0.25 rms.
    const lit = level > 0.004 ? Math.min(LAMPS, Math.ceil(Math.sqrt(level) * 1.7 * LAMPS)) : 0;
    if (lit === this.lit) return;
    this.lit = lit;
    this.lamps.setAttribute('data-lit', String(lit));
  }

  /** @param {number} level of the microphone, 0..1 */
  hear(level, force = false) {
    const now = performance.now();
    if (!force && (now - this.hearAt < METER_MS || this.still)) return;
    this.hearAt = now;
    const strength = Math.min(1, Math.sqrt(level) * 2.2);
    const [near, far] = this.waves.children;
    // In steps: a change that nobody sees would still be drawn.
    const step = (/** @type {number} */ value) => String(Math.round(Math.max(0, Math.min(1, value)) * 8) / 8);
    if (near.getAttribute('opacity') !== step(strength * 1.8)) near.setAttribute('opacity', step(strength * 1.8));
    if (far.getAttribute('opacity') !== step(strength * 1.8 - 0.7)) far.setAttribute('opacity', step(strength * 1.8 - 0.7));
  }

  blinkLater() {
    clearTimeout(this.blinkTimer);
    this.blinkTimer = window.setTimeout(() => {
      if (!document.hidden && !this.still) {
        this.eyes.classList.add('blink');
        setTimeout(() => this.eyes.classList.remove('blink'), 130);
      }
      this.blinkLater();
    }, 3500 + Math.random() * 4000);
  }
}
