// The reply's sound: one ring buffer of 24 kHz samples, played at the context's rate. One node for the life of the page.
// Says every 30 ms how many samples of which item have been played, so that the server knows what was heard.
// A pause lets the sound die away and keeps everything from its first quiet sample on: a resume starts there.
import { Resampler } from './resampler.js';

const RATE = 24000;
const RING = 1 << 17;
/** Sound is held back until this much is here, or this long: the first frames may arrive unevenly. */
const START_SAMPLES = (RATE * 60) / 1000;
const START_WAIT_MS = 120;
/** An empty ring that is filled again this soon was late; one that stays empty longer had nothing to play. */
const LATE_MS = 300;
const REPORT_MS = 30;
const FADE_OUT_S = 0.01;
const FADE_IN_S = 0.015;
/** A resume may go back so far: what the listener reported as heard can be a little ahead of what the server knew. */
const MOST_BACK = RATE / 2;
const LOUD = 0.01;

/** @typedef {{item: string, left: number, ended: boolean, played: number}} Segment */

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new Int16Array(RING);
    this.read = 0;
    this.fill = 0;
    this.resampler = new Resampler(RATE, sampleRate, 1024);
    this.chunk = new Float32Array(64);
    /** @type {Segment[]} */
    this.segments = [];
    /** @type {'idle'|'filling'|'playing'|'starved'} */
    this.state = 'idle';
    /** no: plays; fading: dies away, uncounted; held: waits for resume or flush. @type {'no'|'fading'|'held'} */
    this.hold = 'no';
    this.gain = 1;
    /** Samples taken from the ring since the fade began. */
    this.ahead = 0;
    this.waited = 0;
    this.underruns = 0;
    this.dropped = 0;
    this.loud = 0;
    this.power = 0;
    this.frames = 0;
    this.last = 0;
    this.fade = false;
    /** @type {Map<string, number>} played samples not yet reported */
    this.dirty = new Map();
    this.port.onmessage = (event) => this.message(event.data);
  }

  /** @param {{type: string, item: string, pcm: Int16Array, id: number, sample: number}} message */
  message(message) {
    if (message.type === 'audio') this.add(message.item, message.pcm);
    else if (message.type === 'end') this.end(message.item);
    else if (message.type === 'flush') this.flush(message.id);
    else if (message.type === 'pause') this.pause();
    else if (message.type === 'resume') this.resume(message.item, message.sample);
  }

  pause() {
    if (this.hold !== 'no' || this.state === 'idle') return;
    // What is in the resampler was counted and not heard: it belongs to what is kept.
    const segment = this.segments[0];
    const pending = Math.min(this.resampler.pending, segment.played);
    segment.played -= pending;
    segment.left += pending;
    this.dirty.set(segment.item, segment.played);
    this.ahead = pending;
    this.hold = 'fading';
    if (this.state !== 'playing') this.freeze();
  }

  /** The fade is over: back to where it began. */
  freeze() {
    this.read = (this.read - this.ahead) & (RING - 1);
    this.fill += this.ahead;
    this.ahead = 0;
    this.resampler.reset();
    this.gain = 0;
    this.hold = 'held';
    this.report();
  }

  /** @param {string} item @param {number} sample of the item; never forward: no word is lost */
  resume(item, sample) {
    if (this.hold === 'no') return;
    if (this.hold === 'fading') this.freeze();
    this.hold = 'no';
    const segment = this.segments[0];
    if (segment?.item === item && sample < segment.played) {
      const back = Math.min(segment.played - Math.max(0, sample), RING - this.fill, MOST_BACK);
      this.read = (this.read - back) & (RING - 1);
      this.fill += back;
      segment.left += back;
      segment.played -= back;
      this.dirty.set(item, segment.played);
    }
    this.state = this.fill ? 'playing' : 'filling';
    this.waited = 0;
    this.report();
  }

  /** @param {string} item @param {Int16Array} pcm */
  add(item, pcm) {
    const count = Math.min(pcm.length, RING - this.fill);
    this.dropped += pcm.length - count;
    let at = (this.read + this.fill) & (RING - 1);
    for (let i = 0; i < count; i++) {
      this.ring[at] = pcm[i];
      at = (at + 1) & (RING - 1);
    }
    this.fill += count;
    const tail = this.segments.at(-1);
    if (tail?.item === item) tail.left += count;
    else this.segments.push({ item, left: count, ended: false, played: 0 });
    if (this.state === 'idle') this.wait();
    else if (this.state === 'starved') {
      if (this.waited < LATE_MS && this.hold === 'no') this.underruns++;
      this.wait();
    }
  }

  wait() {
    this.state = 'filling';
    this.waited = 0;
  }

  /** @param {string} item */
  end(item) {
    for (const segment of this.segments) if (segment.item === item) segment.ended = true;
    if (this.hold === 'no' && this.state === 'starved' && this.segments.every((segment) => segment.ended)) this.drained();
  }

  /** @param {number} id */
  flush(id) {
    this.report(id);
    this.read = 0;
    this.fill = 0;
    this.segments = [];
    this.resampler.reset();
    this.state = 'idle';
    this.hold = 'no';
    this.gain = 1;
    this.ahead = 0;
    this.fade = true;
    this.report();
  }

  drained() {
    this.segments = [];
    this.state = 'idle';
    this.report();
  }

  /** @param {number} [flush] */
  report(flush) {
    // Nothing new was played, yet the server should know that somebody listens.
    const now = this.segments[0];
    if (now && !this.dirty.size) this.dirty.set(now.item, now.played);
    this.port.postMessage({
      type: 'report',
      items: [...this.dirty].map(([item, played]) => ({ item, played })),
      underruns: this.underruns,
      level: this.frames ? Math.sqrt(this.power / this.frames) : 0,
      buffered: this.fill,
      playing: this.state !== 'idle',
      held: this.hold !== 'no',
      // What is heard at `time` of the context's clock, for the mouth.
      item: now?.item ?? '',
      sample: now ? Math.max(0, now.played - (this.hold === 'no' ? this.resampler.pending : 0)) : 0,
      time: currentTime,
      moving: this.state === 'playing' && this.hold === 'no',
      loud: this.loud,
      dropped: this.dropped,
      flush,
    });
    this.dirty.clear();
    this.underruns = 0;
    this.power = 0;
    this.frames = 0;
  }

  /** Moves up to one chunk from the ring to the resampler. @returns {boolean} false: the ring is empty */
  take() {
    const count = Math.min(this.chunk.length, this.fill, this.resampler.room);
    if (!count) return false;
    for (let i = 0; i < count; i++) this.chunk[i] = this.ring[(this.read + i) & (RING - 1)] / 32768;
    this.read = (this.read + count) & (RING - 1);
    this.fill -= count;
    this.resampler.push(this.chunk.subarray(0, count));
    if (this.hold === 'no') this.account(count);
    else this.ahead += count;
    return true;
  }

  /** @param {number} count */
  account(count) {
    while (count > 0 && this.segments.length) {
      const segment = this.segments[0];
      const part = Math.min(count, segment.left);
      segment.left -= part;
      segment.played += part;
      count -= part;
      this.dirty.set(segment.item, segment.played);
      if (segment.left > 0 || this.segments.length === 1) break;
      this.segments.shift();
    }
  }

  /** @param {Float32Array} out @returns {number} samples written */
  play(out) {
    let done = 0;
    for (;;) {
      done = this.resampler.pull(out, done);
      if (done === out.length || !this.take()) return done;
    }
  }

  /** @param {Float32Array[][]} _inputs @param {Float32Array[][]} outputs */
  process(_inputs, outputs) {
    const out = outputs[0][0];
    const ms = (out.length * 1000) / sampleRate;
    let done = 0;
    if (this.hold === 'held') {
      out.fill(0);
      this.settle(out);
      return true;
    }
    if (this.state === 'filling') {
      this.waited += ms;
      const ended = this.segments.every((segment) => segment.ended);
      if (this.fill >= START_SAMPLES || ended || this.waited >= START_WAIT_MS) this.state = 'playing';
    }
    if (this.state === 'playing') {
      done = this.play(out);
      if (this.hold === 'fading' || this.gain < 1) this.shade(out, done);
      else if (done < out.length) {
        this.waited = 0;
        this.fade = true;
        if (this.segments.every((segment) => segment.ended)) this.drained();
        else this.state = 'starved';
      }
    } else if (this.state === 'starved') this.waited += ms;
    this.measure(out, done);
    this.ramp(out, done);
    if (this.hold === 'fading' && this.gain <= 0) this.freeze();
    this.settle(out);
    return true;
  }

  /** @param {Float32Array} out */
  settle(out) {
    if (this.hold === 'held') this.frames += out.length;
    if (this.state !== 'idle' && this.frames >= (sampleRate * REPORT_MS) / 1000) this.report();
  }

  /** Down to nothing before a hold, up again after it. @param {Float32Array} out @param {number} done */
  shade(out, done) {
    const down = this.hold === 'fading';
    const step = 1 / (sampleRate * (down ? FADE_OUT_S : FADE_IN_S));
    for (let i = 0; i < done; i++) {
      this.gain = down ? Math.max(0, this.gain - step) : Math.min(1, this.gain + step);
      out[i] *= this.gain;
    }
    // Nothing is left to fade.
    if (done < out.length) this.gain = down ? 0 : 1;
  }

  /** @param {Float32Array} out @param {number} done */
  measure(out, done) {
    for (let i = 0; i < done; i++) {
      this.power += out[i] * out[i];
      if (Math.abs(out[i]) > LOUD) this.loud++;
    }
    this.frames += out.length;
  }

  /** A stop from a full swing clicks: lets the last value die away within this quantum. @param {Float32Array} out @param {number} done */
  ramp(out, done) {
    if (done) this.last = out[done - 1];
    if (done === out.length || !this.fade) return;
    this.fade = false;
    const rest = out.length - done;
    for (let i = 0; i < rest; i++) out[done + i] = this.last * (1 - (i + 1) / rest);
    this.last = 0;
  }
}

registerProcessor('choir-player', Player);
