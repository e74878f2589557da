// What the stock-client tests share: where Choir is, a TAP line for each check, and the two things that the npm client
// needs to be told about a server that is not OpenAI's.
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';

export const url = (process.env.CHOIR_URL ?? 'http://127.0.0.1:8000').replace(/\/$/, '');
export const LIMIT_MS = Number(process.env.CHOIR_ANSWER_MS ?? 180000);
export { sleep };

// Retries would hide a refusal.
export const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none-needed', maxRetries: 0, timeout: LIMIT_MS });

let checks = 0;
let failed = 0;

/** @param {unknown} good @param {string} name @param {unknown} [seen] shown when it is not good */
export function check(good, name, seen) {
  checks++;
  if (!good) failed++;
  console.log(`${good ? 'ok' : 'not ok'} ${checks} - ${name}`);
  if (!good && seen !== undefined) console.log(`# ${JSON.stringify(seen)?.slice(0, 1500)}`);
}

/** Runs the tests of one file. @param {() => Promise<void>} body */
export async function run(body) {
  const watchdog = setTimeout(() => {
    console.log('Bail out! the watchdog ran out');
    process.exit(1);
  }, LIMIT_MS * 4);
  try {
    await body();
  } catch (error) {
    check(false, 'it runs to its end', String(error?.stack ?? error));
  }
  clearTimeout(watchdog);
  console.log(`1..${checks}`);
  process.exit(failed ? 1 : 0);
}

/** A conversation without a past: a small model is led astray by what was said before. */
export async function fresh() {
  const answer = await fetch(`${url}/api/conversations`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"title":"stock clients"}' });
  check(answer.ok, 'a new conversation', answer.status);
}

/** One realtime connection of the stock client, with everything it received and when. */
export class Talk {
  /** @param {string} [model] */
  constructor(model = 'choir') {
    // The client always asks for wss; Choir on loopback speaks plain TCP.
    const plain = { createConnection: (/** @type {any} */ o) => net.connect({ host: o.host, port: o.port }) };
    this.rt = new OpenAIRealtimeWS({ model, options: url.startsWith('http:') ? plain : {} }, client);
    /** @type {any[]} */
    this.events = [];
    /** @type {Set<() => void>} */
    this.waiting = new Set();
    this.rt.on('event', (/** @type {any} */ event) => {
      this.events.push({ ...event, at: performance.now() });
      for (const wake of this.waiting) wake();
    });
    /** @type {any[]} */
    this.errors = [];
    this.rt.on('error', (error) => this.errors.push(error.error ?? error.message));
  }

  /** @param {any} event */
  send(event) {
    this.rt.send(event);
  }

  /** @param {string} text */
  say(text) {
    this.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content: [{ type: 'input_text', text }] } });
  }

  /**
   * The first event after `from` that fits.
   * @param {string | ((event: any) => boolean)} wanted @param {number} [from] @param {number} [ms] @returns {Promise<any>}
   */
  async until(wanted, from = 0, ms = LIMIT_MS) {
    const fits = typeof wanted === 'string' ? (/** @type {any} */ event) => event.type === wanted : wanted;
    const end = performance.now() + ms;
    for (;;) {
      const found = this.events.slice(from).find(fits);
      if (found) return found;
      const left = end - performance.now();
      if (left <= 0) throw new Error(`no ${wanted} within ${ms} ms; last: ${this.events.slice(-5).map((e) => e.type)}; errors: ${JSON.stringify(this.errors)}`);
      await new Promise((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          this.waiting.delete(wake);
          resolve(undefined);
        };
        const timer = setTimeout(wake, left);
        this.waiting.add(wake);
      });
    }
  }

  /** Streams a recording at the speed of speech, then silence. @param {Int16Array} pcm 24 kHz @param {number} silenceMs */
  async speak(pcm, silenceMs) {
    const piece = 480 * 2; // 40 ms
    const all = new Int16Array(pcm.length + silenceMs * 24);
    all.set(pcm);
    const start = performance.now();
    for (let at = 0; at < all.length; at += piece) {
      const part = all.slice(at, at + piece);
      this.send({ type: 'input_audio_buffer.append', audio: Buffer.from(part.buffer).toString('base64') });
      const ahead = start + (at + piece) / 24 - performance.now();
      if (ahead > 0) await sleep(ahead);
    }
  }

  close() {
    this.rt.close();
  }
}

/** 16-bit mono WAV at 24 kHz. @param {string} path @returns {Int16Array} */
export function readSpeech(path) {
  const file = readFileSync(path);
  let at = 12;
  let rate = 0;
  while (at + 8 <= file.length) {
    const id = file.toString('latin1', at, at + 4);
    const size = file.readUInt32LE(at + 4);
    if (id === 'fmt ') rate = file.readUInt32LE(at + 12);
    if (id === 'data') {
      const bytes = Buffer.from(file.subarray(at + 8, Math.min(at + 8 + size, file.length)));
      return to24k(new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1), rate);
    }
    at += 8 + size + (size & 1);
  }
  throw new Error(`${path} holds no sound`);
}

/** @param {Int16Array} pcm @param {number} rate */
function to24k(pcm, rate) {
  const out = new Int16Array(Math.floor((pcm.length - 1) * 24000 / rate));
  for (let i = 0; i < out.length; i++) {
    const x = i * rate / 24000;
    const k = Math.floor(x);
    out[i] = pcm[k] + (pcm[k + 1] - pcm[k]) * (x - k);
  }
  return out;
}

/** Samples in a base64 delta. @param {string} delta */
export const samplesOf = (delta) => Buffer.from(delta, 'base64').length / 2;

/** The order of a response's events, repeated deltas once. @param {any[]} events */
export function shape(events) {
  const types = events.map((event) => event.type.replace('conversation.', '').replace('response.', ''));
  return types.filter((type, i) => !type.endsWith('.delta') || types.indexOf(type) === i).join(' ');
}
