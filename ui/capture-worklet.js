// Microphone to 24 kHz mono s16 in frames of 30 ms, on the audio thread. One node for the life of the page.
import { Resampler } from './resampler.js';

const RATE = 24000;
const FRAME = 720;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.mono = new Float32Array(128);
    this.chunk = new Float32Array(256);
    this.frame = new Int16Array(FRAME);
    this.filled = 0;
    this.power = 0;
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    const channels = inputs[0];
    if (!channels?.length) return true;
    const count = channels[0].length;
    if (this.mono.length !== count) this.mono = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.mono[i] = sum / channels.length;
    }
    this.resampler.push(this.mono);
    for (;;) {
      const end = this.resampler.pull(this.chunk, 0);
      for (let i = 0; i < end; i++) this.add(this.chunk[i]);
      if (end < this.chunk.length) return true;
    }
  }

  /** @param {number} value */
  add(value) {
    const sample = Math.max(-1, Math.min(1, value));
    this.power += sample * sample;
    this.frame[this.filled++] = Math.round(sample * 32767);
    if (this.filled < FRAME) return;
    const pcm = this.frame;
    this.port.postMessage({ pcm, level: Math.sqrt(this.power / FRAME) }, [pcm.buffer]);
    this.frame = new Int16Array(FRAME);
    this.filled = 0;
    this.power = 0;
  }
}

registerProcessor('choir-capture', Capture);
