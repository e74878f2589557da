// The stock pipecat client in Chromium, on a page of another origin: start, handshake, a spoken turn from a fake
// microphone, a typed turn, interruption by text and by voice, disconnect.
import { createServer } from 'node:http';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { openBrowser } from '../page/browser.mjs';
import { check, fresh, LIMIT_MS, readSpeech, run, sleep, url } from './common.mjs';

const data = process.env.CHOIR_DATA;
const origin = process.env.CHOIR_PAGE_ORIGIN;
if (!data || !origin) {
  console.log('CHOIR_DATA names no recorded speech, or CHOIR_PAGE_ORIGIN no origin that Choir was told to allow');
  process.exit(77);
}

const ENTRY = `
import { PipecatClient, RTVIMessage } from '@pipecat-ai/client-js';
import { WavMediaManager, WebSocketTransport } from '@pipecat-ai/websocket-transport';
const log = window.log = [];
const note = (type) => (data) => log.push({ type, data, at: performance.now() });
const names = ['onConnected', 'onDisconnected', 'onTransportStateChanged', 'onBotReady', 'onUserStartedSpeaking', 'onUserStoppedSpeaking',
  'onBotStartedSpeaking', 'onBotStoppedSpeaking', 'onUserTranscript', 'onUserLlmText', 'onBotOutput', 'onBotLlmText', 'onBotLlmStarted',
  'onBotLlmStopped', 'onBotTtsText', 'onBotTtsStarted', 'onBotTtsStopped', 'onMetrics', 'onError', 'onMessageError', 'onServerMessage'];
window.make = () => {
  const media = new WavMediaManager(undefined, 16000);
  const buffer = media.bufferBotAudio.bind(media);
  media.bufferBotAudio = (pcm, id) => (note('audio')(pcm.length), buffer(pcm, id));
  const transport = new WebSocketTransport({ mediaManager: media, recorderSampleRate: 16000 });
  window.client = new PipecatClient({ transport, enableMic: true, enableCam: false, callbacks: Object.fromEntries(names.map((name) => [name, note(name)])) });
};
// Real time, through the client's own message path: speech that comes exactly when the test wants it.
window.speak = async (path, silence) => {
  const bytes = new Uint8Array(await (await fetch(path)).arrayBuffer());
  const all = new Uint8Array(bytes.length + silence * 48);
  all.set(bytes);
  const start = performance.now();
  for (let at = 0; at < all.length; at += 1920) {
    const part = all.slice(at, at + 1920);
    window.client.transport.sendMessage(new RTVIMessage('raw-audio', { base64Audio: btoa(String.fromCharCode(...part)), sampleRate: 24000, numChannels: 1 }));
    const ahead = start + (at + 1920) / 48 - performance.now();
    if (ahead > 0) await new Promise((resolve) => setTimeout(resolve, ahead));
  }
};
window.loaded = true;
`;

/** @param {Int16Array} pcm 24 kHz @param {number} before seconds @param {number} after seconds */
function wav(pcm, before, after) {
  const samples = Math.round(before * 24000) + pcm.length + Math.round(after * 24000);
  const out = Buffer.alloc(44 + samples * 2);
  out.write('RIFF', 0, 'latin1');
  out.writeUInt32LE(36 + samples * 2, 4);
  out.write('WAVEfmt ', 8, 'latin1');
  out.writeUInt32LE(16, 16);
  out.writeUInt16LE(1, 20);
  out.writeUInt16LE(1, 22);
  out.writeUInt32LE(24000, 24);
  out.writeUInt32LE(48000, 28);
  out.writeUInt16LE(2, 32);
  out.writeUInt16LE(16, 34);
  out.write('data', 36, 'latin1');
  out.writeUInt32LE(samples * 2, 40);
  Buffer.from(pcm.buffer, pcm.byteOffset, pcm.byteLength).copy(out, 44 + Math.round(before * 24000) * 2);
  return out;
}

const folder = mkdtempSync(join(tmpdir(), 'choir-rtvi-'));
const speech = readSpeech(`${data}/pocketsphinx/cards/005.wav`);
writeFileSync(join(folder, 'mic.wav'), wav(speech, 4, 60));
const bundle = await build({ stdin: { contents: ENTRY, resolveDir: import.meta.dirname ?? process.cwd() }, bundle: true, format: 'iife', platform: 'browser', write: false, logLevel: 'error' });
const files = {
  '/': ['text/html', '<!doctype html><meta charset="utf-8"><title>RTVI</title><link rel="icon" href="data:,"><script src="/bundle.js"></script>'],
  '/bundle.js': ['text/javascript', bundle.outputFiles[0].text],
  '/speech.raw': ['application/octet-stream', Buffer.from(speech.buffer, speech.byteOffset, speech.byteLength)],
};
const server = createServer((request, response) => {
  const file = files[request.url ?? ''];
  response.writeHead(file ? 200 : 404, { 'Content-Type': file?.[0] ?? 'text/plain' });
  response.end(file?.[1] ?? 'no such file');
});
await new Promise((resolve) => server.listen(Number(new URL(origin).port), '127.0.0.1', () => resolve(undefined)));

/** @param {any} kit what the page has logged, and waits for more of it */
async function spokenTurn({ log, until }) {
  await until('onUserStartedSpeaking', 0);
  await until('onUserStoppedSpeaking', 0);
  const transcript = await until('onUserTranscript', 0);
  check(transcript.data.final && transcript.data.text.length > 0, `a spoken turn is understood: "${transcript.data.text}"`, transcript);
  await until('onBotStartedSpeaking', 0);
  await until('onBotStoppedSpeaking', 0);
  const events = await log();
  const at = (/** @type {string} */ type) => events.findIndex((event) => event.type === type);
  const order = ['onBotReady', 'onUserStartedSpeaking', 'onUserStoppedSpeaking', 'onUserTranscript', 'onBotLlmStarted', 'onBotLlmText', 'onBotTtsStarted', 'onBotStartedSpeaking', 'audio', 'onBotTtsText', 'onBotLlmStopped', 'onBotStoppedSpeaking'];
  const places = order.map(at);
  check(places.every((place, i) => place >= 0 && (i === 0 || place > places[i - 1])), 'in the order of a spoken turn', order.map((type, i) => `${type} ${places[i]}`));
  const outputs = events.filter((event) => event.type === 'onBotOutput').map((event) => event.data);
  const said = events.filter((event) => event.type === 'onBotLlmText').map((event) => event.data.text).join('');
  check(outputs.some((output) => output.spoken_status === 'new') && outputs.some((output) => output.spoken_status === 'completed' && output.spoken_progress.remaining_text === ''), 'bot-output from new to completed', outputs);
  check(outputs.every((output) => !output.spoken_progress || output.text === output.spoken_progress.accumulated_text + output.spoken_progress.remaining_text), 'its progress adds up', outputs);
  const spoken = events.filter((event) => event.type === 'onBotTtsText').map((event) => event.data.text).join('');
  check(spoken.trim() === said.trim(), 'what was spoken is what was written', { spoken, said });
  check(events.some((event) => event.type === 'onMetrics' && event.data.ttfb?.some((/** @type {any} */ row) => row.processor === 'choir-stt')), 'metrics');
}

/** @param {any} kit what the page has logged, and waits for more of it */
async function interruptions({ page, log, until, length }) {
  // Typed, in text only.
  let from = await length();
  await page.evaluate(`window.client.sendText('What is the capital of France?', { audio_response: false })`);
  await until('onBotLlmStopped', from);
  let events = (await log()).slice(from);
  check(/paris/i.test(events.filter((event) => event.type === 'onBotLlmText').map((event) => event.data.text).join('')) && !events.some((event) => event.type === 'audio'), 'a typed turn without sound', events.map((event) => event.type));

  // A typed turn interrupts what is being said; the sound stops at once, for it was never far ahead.
  from = await length();
  await page.evaluate(`window.client.sendText('Tell me a long story about an old lighthouse and its keeper.')`);
  await until('audio', from);
  await sleep(800);
  const before = await length();
  await page.evaluate(`window.client.sendText('What is the capital of Spain?')`);
  await until('onBotStoppedSpeaking', before);
  await until('onBotLlmStarted', before);
  events = (await log()).slice(from);
  const stopped = events.findIndex((event) => event.type === 'onBotStoppedSpeaking');
  const second = events.findIndex((event, i) => i > stopped && event.type === 'onBotLlmStarted');
  check(stopped > 0 && second > stopped && !events.slice(stopped, second).some((event) => event.type === 'audio'), 'text interrupts speech', events.map((event) => event.type).join(' ').slice(-900));

  // A voice interrupts.
  from = await length();
  await page.evaluate(`window.client.sendText('Tell me a very long story about a ship in a storm and its captain.')`);
  await until('onBotLlmStarted', from);
  await until('audio', await length());
  await sleep(600);
  const voice = await length();
  await page.evaluate(`window.speak('/speech.raw', 2500)`);
  const onset = await until('onUserStartedSpeaking', voice);
  const silent = await until('onBotStoppedSpeaking', voice);
  check(silent.at - onset.at < 1500, 'a voice interrupts', silent.at - onset.at);
  // A browser without a processor of its own sends the sound torn: then it is said once more.
  const heard = async () => (await log()).slice(voice).some((event) => event.type === 'onUserTranscript');
  for (const end = performance.now() + 20_000; performance.now() < end && !(await heard()); ) await sleep(100);
  if (!(await heard())) await page.evaluate(`window.speak('/speech.raw', 2500)`);
  await until('onUserTranscript', voice);
}

/** @param {any} kit what the page has logged, and waits for more of it */
async function requests({ page, log, until, length }) {
  // Requests get an answer either way; then it hangs up.
  const state = await page.evaluate(`window.client.sendClientRequest('state')`);
  check(['listening', 'thinking', 'speaking', 'idle'].includes(state?.state), 'a client-message is answered', state);
  const refused = await page.evaluate(`window.client.sendClientRequest('no-such').then(() => 'resolved', () => 'rejected')`);
  check(refused === 'rejected', 'one of an unknown type is refused', refused);
  const from = await length();
  await page.evaluate(`window.client.disconnect()`);
  await until('onDisconnected', from);
  check(true, 'disconnect');
  const errors = (await log()).filter((event) => event.type === 'onError');
  check(errors.length === 0, 'no error', errors);
}

await run(async () => {
  await fresh();
  const browser = await openBrowser({ args: ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', `--use-file-for-fake-audio-capture=${join(folder, 'mic.wav')}%noloop`], permissions: ['microphone'] });
  const { page } = browser;
  await page.goto(origin);
  await page.waitForFunction('window.loaded');

  /** @returns {Promise<any[]>} */
  const log = () => page.evaluate('window.log');
  /** @param {string} type @param {number} from */
  const until = async (type, from) => {
    for (const end = performance.now() + LIMIT_MS; performance.now() < end; await sleep(50)) {
      const found = (await log()).slice(from).find((/** @type {any} */ event) => event.type === type);
      if (found) return found;
    }
    throw new Error(`no ${type}; last: ${JSON.stringify((await log()).slice(-8)).slice(0, 1200)}`);
  };
  const length = async () => (await log()).length;

  // POST /start from another origin: its answer is what the transport wants.
  await page.evaluate('window.make()');
  await page.evaluate(`window.client.startBotAndConnect({ endpoint: '${url}/start', requestData: {} })`);
  const ready = await until('onBotReady', 0);
  check(/^2\./.test(ready.data.version) && ready.data.about.library === 'choir', 'bot-ready', ready);

  const kit = { page, log, until, length };
  await spokenTurn(kit);
  await interruptions(kit);
  await requests(kit);
  await browser.close();
  server.close();
  rmSync(folder, { recursive: true, force: true });
});
