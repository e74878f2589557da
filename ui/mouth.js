// The page's end of mouth-worker.js: a small canvas over the drawn face, which only the worker paints.
import { h } from './dom.js';

/** @typedef {import('./types').Viseme} Viseme */

/** The part of the drawing (200 by 190) that it covers: mouth and lamps. */
const AREA = { x: 40, y: 92, wide: 120, high: 56 };
const DRAWING = { wide: 200, high: 190 };
/** While shapes are known the worker's own clock is good for a while. */
const CLOCK_MS = 300;

export class Mouth {
  /** @param {HTMLElement} box @returns {Mouth|null} null: this browser cannot */
  static make(box) {
    if (typeof Worker === 'undefined' || !('transferControlToOffscreen' in HTMLCanvasElement.prototype)) return null;
    try {
      return new Mouth(box);
    } catch {
      return null;
    }
  }

  /** @param {HTMLElement} box */
  constructor(box) {
    this.box = box;
    this.canvas = h('canvas', { class: 'mouth-canvas', 'aria-hidden': 'true' });
    this.canvas.style.left = `${(100 * AREA.x) / DRAWING.wide}%`;
    this.canvas.style.top = `${(100 * AREA.y) / DRAWING.high}%`;
    this.canvas.style.width = `${(100 * AREA.wide) / DRAWING.wide}%`;
    this.worker = new Worker(new URL('mouth-worker.js', import.meta.url), { type: 'module' });
    this.broken = false;
    this.worker.onerror = () => {
      this.broken = true;
      this.canvas.remove();
    };
    const offscreen = this.canvas.transferControlToOffscreen();
    this.worker.postMessage({ canvas: offscreen }, [offscreen]);
    box.append(this.canvas);
    this.clockAt = 0;
    this.clockKey = '';
    this.running = false;
    new ResizeObserver(() => this.measure()).observe(box);
  }

  measure() {
    const width = Math.round((this.box.clientWidth * AREA.wide * devicePixelRatio) / DRAWING.wide);
    if (width) this.worker.postMessage({ area: AREA, width });
  }

  /** @param {boolean} run */
  run(run) {
    if (run === this.running) return;
    this.running = run;
    const style = getComputedStyle(this.box);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    this.clockKey = '';
    if (run) this.worker.postMessage({ colours: { glow: colour('--glow'), lamp: colour('--state'), dark: colour('--vents') } });
    this.worker.postMessage({ run });
    this.box.classList.toggle('talking', run);
  }

  /** @param {string} item @param {Viseme[]} visemes */
  visemes(item, visemes) {
    this.worker.postMessage({ item, visemes });
  }

  /** What is heard now. @param {{item: string, sample: number}|null} heard @param {number} level */
  follow(heard, level) {
    const now = performance.now();
    const key = heard?.item ?? '';
    /** @type {Record<string, unknown>} */
    const message = { level };
    if (key !== this.clockKey || now - this.clockAt > CLOCK_MS) {
      this.clockKey = key;
      this.clockAt = now;
      message.clock = { item: key, sample: heard?.sample ?? 0, at: performance.timeOrigin + now, moving: heard !== null };
    }
    this.worker.postMessage(message);
  }

  /** @param {(drawn: {at: number, name: string, open: number, draws: number}) => void} callback every drawing from now on */
  trace(callback) {
    this.worker.onmessage = ({ data }) => callback(data);
    this.worker.postMessage({ trace: true });
  }
}
