// Streaming sample-rate conversion by a windowed sinc (Julius O. Smith, "Digital Audio Resampling"): a table of the
// filter's impulse response, read at the fractional position of each output sample. Used inside both worklets.

const ZEROS = 8;
const PER_ZERO = 64;

/** @param {number} x */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** One half of the response (it is symmetric), with a Hann window. */
function makeTable() {
  const table = new Float32Array(ZEROS * PER_ZERO + 2);
  for (let i = 0; i < table.length; i++) {
    const x = i / PER_ZERO;
    table[i] = x >= ZEROS ? 0 : sinc(x) * (0.5 + 0.5 * Math.cos((Math.PI * x) / ZEROS));
  }
  return table;
}

const TABLE = makeTable();

export class Resampler {
  /** @param {number} from Hz @param {number} to Hz @param {number} [most] input samples held at once */
  constructor(from, to, most = 8192) {
    this.step = from / to;
    // Below 1 when the rate goes down: the filter is stretched so that what the new rate cannot carry is removed.
    this.cut = Math.min(1, to / from) * 0.94;
    this.reach = Math.ceil(ZEROS / this.cut) + 1;
    this.buffer = new Float32Array(most + 4 * this.reach);
    this.length = 0;
    /** Where the next output sample lies in the buffer. @type {number} */
    this.at = 0;
    this.reset();
  }

  reset() {
    this.buffer.fill(0, 0, this.reach);
    this.length = this.reach;
    this.at = this.reach;
  }

  /** Input samples that were pushed and are not in the output yet. */
  get pending() {
    return Math.max(0, this.length - Math.floor(this.at));
  }

  /** Input samples that can be pushed now. */
  get room() {
    return this.buffer.length - this.length;
  }

  /** @param {Float32Array} input at most `room` samples */
  push(input) {
    const count = Math.min(input.length, this.room);
    this.buffer.set(count === input.length ? input : input.subarray(0, count), this.length);
    this.length += count;
  }

  /**
   * Fills out[from..] as far as the input reaches.
   * @param {Float32Array} out @param {number} from
   * @returns {number} where it stopped
   */
  pull(out, from) {
    const { buffer, step, cut, reach } = this;
    let at = this.at;
    while (from < out.length && at + reach < this.length) {
      const base = Math.floor(at);
      let sum = 0;
      for (let i = base - reach + 1; i <= base + reach; i++) {
        const place = Math.abs(at - i) * cut * PER_ZERO;
        if (place >= ZEROS * PER_ZERO) continue;
        const slot = Math.floor(place);
        sum += buffer[i] * (TABLE[slot] + (place - slot) * (TABLE[slot + 1] - TABLE[slot]));
      }
      out[from++] = sum * cut;
      at += step;
    }
    const done = Math.floor(at) - reach;
    if (done > 0) {
      buffer.copyWithin(0, done, this.length);
      this.length -= done;
      at -= done;
    }
    this.at = at;
    return from;
  }
}
