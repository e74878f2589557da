// The page's sound without a browser: the resampler's quality, the player's ring, the capture frames.
import { readFileSync } from 'node:fs';
import { Tap } from './browser.mjs';
import { Resampler } from '../../../ui/resampler.js';

const tap = new Tap();
const QUANTUM = 128;

/** Loads a worklet as the audio thread would, at a given rate. */
async function load(name, rate) {
  let made;
  globalThis.sampleRate = rate;
  globalThis.AudioWorkletProcessor = class {
    constructor() {
      this.port = { sent: [], postMessage: (message) => this.port.sent.push(message), onmessage: null };
    }
  };
  globalThis.registerProcessor = (_, processor) => (made = processor);
  await import(`../../../ui/${name}.js?rate=${rate}-${Math.random()}`);
  return new made();
}

/** Power of a tone against everything else, in dB. */
function signalToNoise(samples, frequency, rate) {
  let [real, imaginary, all] = [0, 0, 0];
  for (let i = 0; i < samples.length; i++) {
    real += samples[i] * Math.cos((2 * Math.PI * frequency * i) / rate);
    imaginary += samples[i] * Math.sin((2 * Math.PI * frequency * i) / rate);
    all += samples[i] ** 2;
  }
  const tone = (2 * (real * real + imaginary * imaginary)) / samples.length;
  return 10 * Math.log10(tone / Math.max(1e-12, all - tone));
}

function resample(from, to, frequency, count) {
  const resampler = new Resampler(from, to);
  const out = new Float32Array(Math.ceil((count * to) / from));
  let filled = 0;
  for (let at = 0; at < count; at += QUANTUM) {
    resampler.push(Float32Array.from({ length: QUANTUM }, (_, i) => 0.5 * Math.sin((2 * Math.PI * frequency * (at + i)) / from)));
    filled = resampler.pull(out, filled);
  }
  return out.subarray(0, filled);
}

function resamplerTests() {
  for (const [from, to] of [[24000, 48000], [24000, 44100], [48000, 24000], [44100, 24000], [16000, 24000], [96000, 24000], [24000, 24000]]) {
    const out = resample(from, to, 1000, from);
    tap.ok(Math.abs(out.length - to) < 40, `${from} to ${to} Hz: one second stays one second`, `${out.length} samples`);
    // A whole number of periods, away from the start.
    const part = out.subarray(to / 10, to / 10 + Math.floor(to / 2));
    const ratio = signalToNoise(part, 1000, to);
    tap.ok(ratio > 60, `${from} to ${to} Hz: a tone stays clean (${ratio.toFixed(0)} dB)`);
    let peak = 0;
    for (const value of part) peak = Math.max(peak, Math.abs(value));
    tap.ok(Math.abs(peak - 0.5) < 0.02, `${from} to ${to} Hz: and as loud as it was`, `peak ${peak}`);
  }
  const out = resample(48000, 24000, 18000, 48000);
  let peak = 0;
  for (const value of out.subarray(2000)) peak = Math.max(peak, Math.abs(value));
  tap.ok(peak < 0.01, 'what 24 kHz cannot carry is removed, not folded back', `peak ${peak}`);
}

const tone = (count, start = 0) => Int16Array.from({ length: count }, (_, i) => Math.round(12000 * Math.sin((2 * Math.PI * 300 * (start + i)) / 24000)));

class Listener {
  constructor(player, rate) {
    Object.assign(this, { player, rate, played: new Map(), last: null });
  }

  send(message) {
    this.player.port.onmessage({ data: message });
  }

  /** Runs the audio thread for a while; returns what was heard. */
  run(ms) {
    const heard = [];
    for (let done = 0; done < (this.rate * ms) / 1000; done += QUANTUM) {
      const out = new Float32Array(QUANTUM);
      this.player.process([], [[out]]);
      heard.push(...out);
    }
    for (const report of this.player.port.sent.splice(0)) {
      this.last = report;
      for (const { item, played } of report.items) this.played.set(item, played);
      this.underruns = (this.underruns ?? 0) + report.underruns;
    }
    return heard;
  }
}

const loud = (samples) => samples.some((value) => Math.abs(value) > 0.05);

async function playerTests() {
  for (const rate of [48000, 44100]) {
    const one = new Listener(await load('player-worklet', rate), rate);
    tap.ok(!loud(one.run(50)) && !one.last, `${rate} Hz: an idle player is silent and says nothing`);
    one.send({ type: 'audio', item: 'a', pcm: tone(960) });
    tap.ok(!loud(one.run(20)), `${rate} Hz: 40 ms of sound wait for more`);
    one.send({ type: 'audio', item: 'a', pcm: tone(960, 960) });
    tap.ok(loud(one.run(30)), `${rate} Hz: 80 ms start at once`);
    for (let i = 2; i < 25; i++) {
      one.send({ type: 'audio', item: 'a', pcm: tone(960, 960 * i) });
      one.run(40);
    }
    tap.ok(one.underruns === 0, `${rate} Hz: an even stream has no underrun`, `${one.underruns}`);
    const before = one.played.get('a');
    tap.ok(before > 20000 && before <= 24000, `${rate} Hz: the samples played are counted`, `${before} of 24000`);
    one.send({ type: 'end', item: 'a' });
    one.run(200);
    tap.is(one.played.get('a'), 24000, `${rate} Hz: all of an ended item has been played`);
    tap.is(one.last.playing, false, `${rate} Hz: and the player is idle again`);
    tap.is(one.underruns, 0, `${rate} Hz: an end is no underrun`);
  }
}

async function flushTests() {
  const one = new Listener(await load('player-worklet', 48000), 48000);
  one.send({ type: 'audio', item: 'a', pcm: tone(24000) });
  one.run(200);
  const before = one.played.get('a');
  one.send({ type: 'flush', id: 7 });
  const first = one.run(2.6);
  const rest = one.run(300);
  let step = 0;
  for (let i = 1; i < first.length; i++) step = Math.max(step, Math.abs(first[i] - first[i - 1]));
  tap.ok(!rest.some((value) => value !== 0), 'a flush is followed by silence within one quantum');
  tap.ok(step < 0.05, 'without a click', `largest step ${step}`);
  tap.ok(Math.abs(one.played.get('a') - before) < 1600, 'and the last report tells what was played', `${before} ${one.played.get('a')}`);
  one.send({ type: 'audio', item: 'b', pcm: tone(4800) });
  tap.ok(loud(one.run(100)), 'the next item plays after it');
  one.run(60);
  tap.ok(one.played.get('b') > 0 && !one.played.has('c'), 'and is counted on its own');
}

async function underrunTests() {
  const one = new Listener(await load('player-worklet', 48000), 48000);
  one.send({ type: 'audio', item: 'a', pcm: tone(2400) });
  one.run(200);
  one.send({ type: 'audio', item: 'a', pcm: tone(2400) });
  one.run(50);
  tap.is(one.underruns, 1, 'sound that came 100 ms late is one underrun');
  one.run(1000);
  one.send({ type: 'audio', item: 'a', pcm: tone(2400) });
  one.run(50);
  tap.is(one.underruns, 1, 'a pause of a second is not: there was nothing to play');
  one.send({ type: 'audio', item: 'a', pcm: tone(150000) });
  one.run(40);
  tap.ok(one.last.dropped > 0, 'the ring is bounded and counts what it dropped', `${one.last.dropped}`);
  const two = new Listener(await load('player-worklet', 48000), 48000);
  two.send({ type: 'audio', item: 'a', pcm: tone(480) });
  two.send({ type: 'end', item: 'a' });
  tap.ok(loud(two.run(40)), 'a reply shorter than the start buffer is played');
  two.send({ type: 'audio', item: 'b', pcm: tone(480) });
  tap.ok(loud(two.run(200)), 'and so is one whose end is late');
}

async function captureTests() {
  const capture = await load('capture-worklet', 48000);
  for (let at = 0; at < 48000; at += QUANTUM) {
    const left = Float32Array.from({ length: QUANTUM }, (_, i) => 0.4 * Math.sin((2 * Math.PI * 500 * (at + i)) / 48000));
    capture.process([[left, left]]);
  }
  const frames = capture.port.sent;
  tap.ok(frames.length >= 32 && frames.every((frame) => frame.pcm.length === 720), 'a second of microphone gives frames of 30 ms at 24 kHz', `${frames.length}`);
  tap.ok(Math.abs(frames[10].level - 0.4 / Math.SQRT2) < 0.01, 'with their level', `${frames[10].level}`);
  const all = Float32Array.from(frames.slice(2, 32).flatMap((frame) => [...frame.pcm]));
  const ratio = signalToNoise(all.subarray(0, 19200), 500, 24000);
  tap.ok(ratio > 55, `and a clean tone (${ratio.toFixed(0)} dB)`);
  tap.is(capture.process([[]]), true, 'an unplugged microphone does no harm');
}

resamplerTests();
await playerTests();
await flushTests();
await underrunTests();
await captureTests();
const sources = ['player-worklet.js', 'capture-worklet.js'].map((name) => readFileSync(new URL(`../../../ui/${name}`, import.meta.url), 'utf8'));
tap.ok(sources.every((text) => !text.includes('setTimeout') && !text.includes('Promise')), 'nothing on the audio thread waits');
tap.end();
