// The page's sound without a browser: the resampler's quality, the player's ring, pauses, the capture frames, the mouth.
import { readFileSync } from 'node:fs';
import { Tap } from './browser.mjs';
import { Lips, mouthPath, SHAPES } from '../../../ui/lips.js';
import { Resampler } from '../../../ui/resampler.js';
import { chooseRoute } from '../../../ui/route.js';

const tap = new Tap();
const QUANTUM = 128;

/** Loads a worklet as the audio thread would, at a given rate. */
async function load(name, rate) {
  let made;
  globalThis.sampleRate = rate;
  globalThis.currentTime = 0;
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
      globalThis.currentTime += QUANTUM / this.rate;
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

/** A rising staircase of a tone: each sample says which one it is. */
const ramp = (count, start = 0) => Int16Array.from({ length: count }, (_, i) => 4000 + start + i);

async function pauseTests() {
  const one = new Listener(await load('player-worklet', 24000), 24000);
  one.send({ type: 'audio', item: 'a', pcm: ramp(12000) });
  one.run(150);
  one.send({ type: 'pause' });
  const fade = one.run(20);
  const held = one.run(200);
  const at = one.played.get('a');
  let step = 0;
  for (let i = 1; i < fade.length; i++) step = Math.max(step, Math.abs(fade[i] - fade[i - 1]));
  tap.ok(step < 0.01, 'a pause dies away without a click', `largest step ${step}`);
  tap.ok(!held.some((value) => value !== 0), 'and is silent within 20 ms');
  tap.ok(one.last.held && one.last.playing && !one.last.moving, 'the reports say that it is held');
  one.run(500);
  tap.is(one.played.get('a'), at, 'nothing of the fade counts as heard, however long it lasts');
  tap.is(one.last.sample, at, 'nor does the clock of the mouth move');
  one.send({ type: 'audio', item: 'a', pcm: ramp(6000, 12000) });
  tap.ok(!loud(one.run(100)), 'sound that comes meanwhile waits');
  one.send({ type: 'resume', item: 'a', sample: at });
  const back = one.run(40);
  const first = back.findIndex((value) => value > 0.01);
  tap.ok(first >= 0 && first < 24 * 20, `a resume is heard after ${(first / 24).toFixed(1)} ms`);
  // After the fade-in the value names the sample: the count starts where the pause did.
  const late = Math.round(back[600] * 32768) - 4000;
  tap.ok(Math.abs(late - (at + 600)) < 24, 'and goes on from the paused sample', `sample ${late} after ${at} and 600 more`);
  one.run(1000);
  tap.is(one.played.get('a'), 18000, 'every sample was counted once in the end');
  tap.is(one.underruns, 0, 'a pause is no underrun');

  const two = new Listener(await load('player-worklet', 48000), 48000);
  two.send({ type: 'audio', item: 'b', pcm: tone(12000) });
  two.run(200);
  two.send({ type: 'pause' });
  two.run(100);
  const kept = two.played.get('b');
  two.send({ type: 'resume', item: 'b', sample: kept - 1200 });
  two.run(1);
  tap.is(two.played.get('b'), kept - 1200, 'the server may go back a little');
  two.run(100);
  two.send({ type: 'pause' });
  two.run(30);
  const again = two.played.get('b');
  two.send({ type: 'resume', item: 'b', sample: again + 5000 });
  two.run(1);
  tap.is(two.played.get('b'), again, 'but never forward');
  two.send({ type: 'pause' });
  two.run(30);
  two.send({ type: 'flush', id: 1 });
  tap.ok(!two.run(300).some((value) => value !== 0) && !two.last.playing && !two.last.held, 'a cut drops what was held');
  two.send({ type: 'audio', item: 'c', pcm: tone(4800) });
  tap.ok(loud(two.run(100)), 'and the next reply is heard at full strength');
  const three = new Listener(await load('player-worklet', 48000), 48000);
  three.send({ type: 'pause' });
  three.send({ type: 'audio', item: 'd', pcm: tone(4800) });
  tap.ok(loud(three.run(100)), 'a pause of nothing pauses nothing');
  three.send({ type: 'end', item: 'd' });
  three.send({ type: 'pause' });
  three.run(500);
  tap.ok(three.last.playing, 'an ended reply can be held too');
  three.send({ type: 'resume', item: 'd', sample: three.played.get('d') });
  three.run(500);
  tap.ok(three.played.get('d') === 4800 && !three.last.playing, 'and ends after it was resumed');
}

function lipTests() {
  const lips = new Lips();
  lips.add('x', [[0, 'sil'], [4800, 'aa'], [9600, 'PP'], [12000, 'U'], [14400, 'nonsense'], [NaN, 'aa']]);
  const shape = (sample) => {
    lips.move({ item: 'x', sample }, 0, 0);
    return { ...lips.shape, name: lips.name };
  };
  tap.is(shape(2400).open, 0, 'before its first sample a shape is not there');
  tap.is(shape(7200).open, SHAPES.aa.open, 'in its middle it is whole');
  tap.ok(shape(4100).open === 0 && shape(4799).open > SHAPES.aa.open * 0.4 && shape(4799).open < SHAPES.aa.open * 0.6, 'at the border it is half open', JSON.stringify(shape(4799)));
  tap.is(shape(11000).open, 0, 'lips meet for p, b and m');
  tap.is(shape(13000).name, 'U', 'an unknown name is left out');
  let jump = 0;
  for (let at = 1; at < 20000; at += 8) jump = Math.max(jump, Math.abs(shape(at).open - shape(at - 8).open));
  tap.ok(jump < 0.5, 'shapes flow into each other', `largest jump ${jump}`);
  lips.add('x', [[12000, 'O']]);
  tap.is(shape(13000).name, 'O', 'what is sent anew replaces what stood there');
  lips.move({ item: 'y', sample: 100 }, 0.1, 50);
  lips.move({ item: 'y', sample: 100 }, 0.1, 150);
  tap.ok(lips.name === 'level' && lips.shape.open > 5, 'an item without shapes follows the loudness');
  for (let time = 200; time < 800; time += 33) lips.move(null, 0, time);
  tap.is(lips.shape.open, 0, 'and closes in silence');
  for (const name of Object.keys(SHAPES)) tap.ok(!/NaN|undefined/.test(Object.values(mouthPath(SHAPES[name], 8)).join()), `${name} can be drawn`);
  for (let i = 0; i < 9; i++) lips.add(`item${i}`, [[0, 'aa']]);
  tap.ok(lips.items.size <= 4, 'old items are forgotten');
}

function routeTests() {
  tap.is(chooseRoute('auto', '', 148), 'element', 'a Chromium that cancels everything gets the audio element');
  tap.is(chooseRoute('auto', 'remote-only', 148), 'peer', 'one that cancels calls only gets a call');
  tap.is(chooseRoute('auto', 'true', 90), 'peer', 'and so does an old one');
  tap.is(chooseRoute('auto', 'false', 90), 'element', 'but not when nothing is cancelled');
  tap.is(chooseRoute('auto', 'true', 0), 'element', 'other browsers get the audio element');
  tap.is(chooseRoute('direct', 'remote-only', 148), 'direct', 'what a person chose holds');
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
await pauseTests();
lipTests();
routeTests();
await captureTests();
const sources = ['player-worklet.js', 'capture-worklet.js'].map((name) => readFileSync(new URL(`../../../ui/${name}`, import.meta.url), 'utf8'));
tap.ok(sources.every((text) => !text.includes('setTimeout') && !text.includes('Promise')), 'nothing on the audio thread waits');
tap.end();
