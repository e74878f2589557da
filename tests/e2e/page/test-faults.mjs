// States that a healthy daemon does not show on demand, against the test double: a model that loads, one that is weak
// and is changed for a better one with one click, a voice engine that is missing, a voice session that is refused.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { openBrowser, OUT, Tap } from './browser.mjs';

const tap = new Tap();

/** @param {...string} options @returns {Promise<{url: string, stop: () => void}>} */
async function startDouble(...options) {
  const child = spawn(process.execPath, [new URL('double.mjs', import.meta.url).pathname, '--port', '0', ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const url = await new Promise((resolve, reject) => {
    child.stdout.on('data', (data) => resolve(/http:\S+/.exec(String(data))?.[0]));
    child.on('exit', (code) => reject(new Error(`the double ended with ${code}`)));
  });
  return { url, stop: () => child.kill() };
}

/** @param {string[]} options @param {(page: import('playwright-core').Page) => Promise<void>} run @param {object} [browser] */
async function against(options, run, browser = {}) {
  const double = await startDouble(...options);
  const { page, close } = await openBrowser(browser);
  try {
    await page.goto(double.url);
    await page.waitForSelector('.tile', { state: 'attached' });
    await run(page);
  } finally {
    await close();
    double.stop();
  }
}

const say = async (page, text) => {
  await page.fill('#message-input', text);
  await page.press('#message-input', 'Enter');
};

async function loading(page) {
  await tap.waits(page, 'a loading model is said in the bar', () => /loading \d+ %/.test(document.getElementById('status-display').textContent));
  await tap.waits(page, 'and by the face', () => document.getElementById('state-word').textContent === 'Waking up');
  tap.ok(await page.isVisible('#tiles progress'), 'and shown as a bar');
  await page.screenshot({ path: join(OUT, 'fault-loading.png') });
  await tap.waits(page, 'until it is ready', () => document.getElementById('state-word').textContent === 'Ready');
}

async function betterModel(page) {
  await tap.waits(page, 'a weak model is announced', () => document.querySelector('#banner p')?.textContent === 'SmolLM2-135M-Instruct is small and often wrong.');
  tap.ok((await page.textContent('#better-model')).includes('Qwen3-1.7B-Instruct'), 'with the best verified one that fits');
  await page.click('#better-model');
  await tap.waits(page, 'one click fetches it, with progress', () => document.querySelector('#banner progress')?.value > 0);
  await page.screenshot({ path: join(OUT, 'fault-fetch.png') });
  await page.reload();
  await tap.waits(page, 'and uses it when it is there, even after a reload', () => document.querySelector('.tile-value')?.textContent === 'Qwen3-1.7B-Instruct');
  await tap.waits(page, 'the banner is gone then', () => document.getElementById('banner').hidden);
}

async function noVoice(page) {
  await say(page, 'Hello there');
  await tap.waits(page, 'without a voice session typing still works', () => document.querySelector('.row.agent:not(.coming)'), null, 20000);
  tap.is(await page.isVisible('#stop-button'), false, 'and no button pretends to stop it');
}

async function noTts(page) {
  await tap.waits(page, 'a missing part is named', () => document.querySelector('.notice strong')?.textContent === 'Missing: voice output');
  tap.ok((await page.textContent('.notice')).includes('TTS_SERVICE=flite'), 'with its remedy');
  tap.ok((await page.getAttribute('#speak-toggle', 'title')).startsWith('No voice now'), 'and the speech button says so');
  await page.screenshot({ path: join(OUT, 'fault-missing.png') });
}

async function speakOff(page) {
  await page.click('#speak-toggle');
  tap.is(await page.getAttribute('#speak-toggle', 'aria-pressed'), 'false', 'speaking can be turned off');
  await say(page, 'Tell me a story');
  await tap.waits(page, 'then the answer is written', () => document.querySelector('.row.agent:not(.coming)'), null, 30000);
  tap.is((await page.evaluate(() => window.choir.stats())).loud, 0, 'and nothing is heard');
  await page.reload();
  tap.is(await page.getAttribute('#speak-toggle', 'aria-pressed'), 'false', 'the choice holds after a reload');
}

async function calm(page) {
  await tap.waits(page, 'the page settles', () => document.getElementById('state-word').textContent === 'Ready');
  await page.waitForTimeout(1000);
  const frames = await page.evaluate(async () => {
    const original = window.requestAnimationFrame;
    let asked = 0;
    window.requestAnimationFrame = (callback) => {
      asked++;
      return original(callback);
    };
    await new Promise((resolve) => setTimeout(resolve, 3000));
    return { asked, running: document.getAnimations().map((one) => `${one.effect.target.tagName} ${one.playState}`) };
  });
  tap.ok(frames.asked < 5 && frames.running.length === 0, 'an idle page draws nothing', JSON.stringify(frames));
}

async function stillness(page) {
  await say(page, 'Tell me a story');
  await tap.waits(page, 'a reply begins', () => document.querySelector('.row.coming'));
  tap.is(await page.evaluate(() => document.getAnimations().length), 0, 'with reduced motion nothing moves');
}

/** Somebody goes on talking before the answer: the server withdraws the turn without a word and sends a longer one. */
async function withdrawn() {
  const double = await startDouble();
  const { page, close } = await openBrowser();
  let say;
  await page.routeWebSocket('**/ws', (socket) => {
    say = (message) => socket.send(JSON.stringify(message));
    say({ type: 'hello', version: '0.1.0', conversation: 1 });
  });
  await page.goto(double.url);
  await page.waitForFunction(() => document.getElementById('talk').classList.contains('is-empty') && document.querySelector('.tile'));
  await page.waitForTimeout(500);
  const texts = () => page.evaluate(() => [...document.querySelectorAll('.row')].map((row) => `${row.dataset.role} ${row.querySelector('.body').textContent}`).join(' | '));
  say({ type: 'user', data: 'Ask not', source: 'page', turn_id: 'a' });
  await tap.waits(page, 'a turn begins', () => document.querySelector('.row.coming'));
  say({ type: 'status', data: 'idle' });
  await tap.waits(page, 'withdrawn without a word it leaves no waiting row', () => !document.querySelector('.row.coming'));
  say({ type: 'user', data: 'Ask not what your country', source: 'page', turn_id: 'b' });
  say({ type: 'agent_delta', data: 'Well', turn_id: 'b' });
  say({ type: 'agent', data: 'Well, yes.', turn_id: 'b' });
  say({ type: 'status', data: 'idle' });
  await tap.waits(page, 'the longer one is answered', () => document.querySelector('.row.agent:not(.coming)'));
  tap.is(await texts(), 'user Ask not what your country | agent Well, yes.', 'and what was said stands there once');
  say({ type: 'agent', data: 'Well', turn_id: 'b', cut: true });
  await tap.waits(page, 'a cut that comes after the whole reply shortens it', () => document.querySelector('.row.agent.cut .body')?.textContent === 'Well');
  say({ type: 'user', data: 'Go on', source: 'api', turn_id: 'c' });
  say({ type: 'error', data: 'The model server stopped.', turn_id: 'c' });
  await tap.waits(page, 'a failed turn says so in the conversation', () => document.querySelector('.row.error .body')?.textContent === 'The model server stopped.');
  tap.is(await page.getAttribute('#robot-art', 'data-face'), 'error', 'and on the face');
  await page.screenshot({ path: join(OUT, 'fault-error.png') });
  await close();
  double.stop();
}

await tap.step('withdrawn', withdrawn);
await tap.step('loading', () => against(['--loading', '12000'], loading));
await tap.step('better model', () => against([], betterModel));
await tap.step('no voice', () => against(['--fault', 'no-voice'], noVoice));
await tap.step('no tts', () => against(['--fault', 'no-tts'], noTts));
await tap.step('speak off', () => against([], speakOff));
await tap.step('calm', () => against([], calm));
await tap.step('reduced motion', () => against([], stillness, { still: true }));
tap.end();
