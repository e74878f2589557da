// From sound to the shape of a mouth: by the names of mouth shapes that the server sends for an item's samples, or, where
// it sends none, by how loud the sound is. Pure: no element, no timer, so that tests can run it against a clock of theirs.

/** @typedef {import('./types').Viseme} Viseme */
/** @typedef {{wide: number, open: number, teeth: number, tongue: number}} Shape half width, height, 0..1, 0..1 */

/** The usual set of fifteen; wide and open in units of the drawing (200 wide). @type {Record<string, Shape>} */
export const SHAPES = {
  sil: { wide: 17, open: 0, teeth: 0, tongue: 0 },
  PP: { wide: 14, open: 0, teeth: 0, tongue: 0 },
  FF: { wide: 15, open: 5, teeth: 1, tongue: 0 },
  TH: { wide: 16, open: 8, teeth: 0.6, tongue: 1 },
  DD: { wide: 16, open: 9, teeth: 0.6, tongue: 0.6 },
  kk: { wide: 16, open: 9, teeth: 0.2, tongue: 0.3 },
  CH: { wide: 11, open: 10, teeth: 0.8, tongue: 0 },
  SS: { wide: 18, open: 6, teeth: 1, tongue: 0 },
  nn: { wide: 16, open: 7, teeth: 0.3, tongue: 0.7 },
  RR: { wide: 12, open: 9, teeth: 0, tongue: 0.4 },
  aa: { wide: 18, open: 20, teeth: 0.4, tongue: 0.5 },
  E: { wide: 20, open: 14, teeth: 0.5, tongue: 0.4 },
  I: { wide: 21, open: 10, teeth: 0.6, tongue: 0.2 },
  O: { wide: 12, open: 19, teeth: 0, tongue: 0.3 },
  U: { wide: 8.5, open: 12, teeth: 0, tongue: 0 },
};
const RATE = 24000;
/** Lips are on their way before a sound begins: half of the change lies before its first sample. */
const BLEND = RATE * 0.05;
/** Shapes of more items than this are of the past. */
const MOST_ITEMS = 4;
const MOST_SHAPES = 4000;
/** Behind the last shape of an item so far: no longer covered. */
const STALE = RATE * 0.6;

export class Lips {
  constructor() {
    /** @type {Map<string, Viseme[]>} */
    this.items = new Map();
    this.shape = { ...SHAPES.sil };
    this.name = 'sil';
    this.level = 0;
    this.at = 0;
  }

  /** @param {string} item @param {Viseme[]} list in the order of their samples */
  add(item, list) {
    const known = this.items.get(item) ?? [];
    for (const [first, name] of list) {
      if (!Number.isFinite(first) || !(name in SHAPES) || known.length >= MOST_SHAPES) continue;
      // What is sent anew replaces what was said about the same samples.
      while (known.length && known[known.length - 1][0] >= first) known.pop();
      known.push([first, name]);
    }
    this.items.delete(item);
    this.items.set(item, known);
    if (this.items.size > MOST_ITEMS) this.items.delete(/** @type {string} */ (this.items.keys().next().value));
  }

  close() {
    this.shape = { ...SHAPES.sil };
    this.name = 'sil';
    this.level = 0;
  }

  /**
   * @param {{item: string, sample: number}|null} now what is heard; null: nothing
   * @param {number} level its loudness, 0..1 @param {number} time ms
   */
  move(now, level, time) {
    const step = Math.min(100, Math.max(1, time - this.at));
    this.at = time;
    const list = (now && this.items.get(now.item)) ?? [];
    const last = list.at(-1);
    if (now && last && now.sample - last[0] < STALE) this.follow(list, find(list, now.sample), now.sample);
    else this.byLevel(now ? level : 0, step);
  }

  /** Samples until another shape begins. @param {{item: string, sample: number}} now */
  untilNext(now) {
    const list = this.items.get(now.item) ?? [];
    const next = list[find(list, now.sample) + 1];
    return next ? next[0] - now.sample : Infinity;
  }

  /** @param {Viseme[]} list @param {number} index @param {number} sample */
  follow(list, index, sample) {
    const here = index < 0 ? SHAPES.sil : SHAPES[list[index][1]];
    const begins = index < 0 ? -Infinity : list[index][0];
    const next = list[index + 1];
    const ends = next ? next[0] : Infinity;
    const before = index > 0 ? SHAPES[list[index - 1][1]] : SHAPES.sil;
    const after = next ? SHAPES[next[1]] : here;
    // Around each border both shapes have half a say; a short sound still reaches its own shape in the middle.
    const half = Math.min(BLEND / 2, (ends - begins) / 2);
    let shape = here;
    if (sample - begins < half) shape = mix(before, here, 0.5 + (sample - begins) / (2 * half));
    else if (ends - sample < half) shape = mix(here, after, 0.5 - (ends - sample) / (2 * half));
    this.shape = shape;
    this.name = index < 0 ? 'sil' : list[index][1];
  }

  /** @param {number} level @param {number} step ms since the last time */
  byLevel(level, step) {
    // Speech lies near 0.05..0.25 rms; the root makes quiet sounds visible. Opens fast, closes slower.
    const wanted = level > 0.003 ? Math.min(1, Math.sqrt(level) * 1.9) : 0;
    const speed = wanted > this.level ? 35 : 50;
    this.level += (wanted - this.level) * (1 - Math.exp(-step / speed));
    if (this.level < 0.03) this.level = 0;
    this.shape = { wide: 17 - 3 * this.level, open: 20 * this.level, teeth: 0.4, tongue: 0.4 };
    this.name = this.level > 0 ? 'level' : 'sil';
  }
}

/** The last one that has begun; -1: none yet. @param {Viseme[]} list @param {number} sample */
function find(list, sample) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle][0] <= sample) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** @param {Shape} a @param {Shape} b @param {number} part of b @returns {Shape} */
function mix(a, b, part) {
  const one = (/** @type {keyof Shape} */ key) => a[key] + (b[key] - a[key]) * part;
  return { wide: one('wide'), open: one('open'), teeth: one('teeth'), tongue: one('tongue') };
}

/** Half units: a change below that is not seen and not drawn. @param {number} value */
const round = (value) => Math.round(value * 2) / 2;

/**
 * @param {Shape} shape @param {number} corners how far a closed mouth smiles
 * @returns {{mouth: string, teeth: string, tongue: string, open: boolean}} paths around (100, 106)
 */
export function mouthPath(shape, corners) {
  const wide = round(shape.wide);
  const open = round(shape.open);
  if (open < 2) return { mouth: `M${100 - wide} ${106 - corners / 4}q${wide} ${corners} ${2 * wide} 0`, teeth: '', tongue: '', open: false };
  const [left, right] = [100 - wide, 100 + wide];
  const top = 104 - round(open * 0.22);
  const bottom = top + open + 3;
  // A wide mouth is flat above and full below, a round one is an egg.
  const bend = wide > 13 ? 0.85 : 0.56;
  const middle = round(top + (bottom - top) * (wide > 13 ? 0.34 : 0.48));
  const up = round(middle - (middle - top) * bend);
  const down = round(middle + (bottom - middle) * bend);
  const pull = round(wide * 0.6);
  const mouth = `M${left} ${middle}C${left} ${up} ${100 - pull} ${top} 100 ${top}S${right} ${up} ${right} ${middle}C${right} ${down} ${100 + pull} ${bottom} 100 ${bottom}S${left} ${down} ${left} ${middle}z`;
  const inner = Math.max(3, wide - 6);
  const teeth = shape.teeth >= 0.35 && open >= 5 ? `M${100 - inner} ${top + 3.5}h${2 * inner}` : '';
  const tongue = shape.tongue >= 0.35 && open >= 7 ? `M${100 - inner * 0.6} ${bottom - 2.5}q${inner * 0.6} ${-Math.min(7, open * 0.35)} ${inner * 1.2} 0z` : '';
  return { mouth, teeth, tongue, open: true };
}
