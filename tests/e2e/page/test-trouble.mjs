// The page when things are missing: the server goes away and comes back; no microphone, for each reason.
import { join } from 'node:path';
import { openBrowser, OUT, Tap, URL_UNDER_TEST } from './browser.mjs';
import { startProxy } from './proxy.mjs';

const tap = new Tap();
const ANSWER_MS = Number(process.env.CHOIR_ANSWER_MS ?? 90000);
const fake = ['--use-fake-device-for-media-stream'];
const connected = () => document.getElementById('status-light').dataset.light !== 'off';

async function reconnects() {
  const proxy = await startProxy(URL_UNDER_TEST);
  const { page, close } = await openBrowser();
  await page.goto(proxy.url);
  await tap.waits(page, 'the page connects', connected);
  await page.click('#new-conversation');
  await page.waitForFunction(() => document.getElementById('talk').classList.contains('is-empty'));
  await page.fill('#message-input', 'Remember this line, please.');
  await page.press('#message-input', 'Enter');
  await tap.waits(page, 'a turn is made', () => document.querySelector('.row.agent:not(.coming)'), null, ANSWER_MS);
  proxy.down();
  await tap.waits(page, 'the page says that the server is gone', () => document.getElementById('state-word').textContent === 'Not connected');
  await tap.waits(page, 'the face sleeps', () => document.getElementById('robot-art').dataset.face === 'offline');
  await tap.waits(page, 'and counts down to the next try', () => /Trying again in \d+ s/.test(document.getElementById('status-display').textContent));
  await page.screenshot({ path: join(OUT, 'trouble-offline.png') });
  await page.fill('#message-input', 'This must not be lost.');
  await page.press('#message-input', 'Enter');
  await tap.waits(page, 'what cannot be sent is said and stays in the box', () => document.querySelector('.toast.error') && document.getElementById('message-input').value === 'This must not be lost.');
  // Waits must grow: a page that knocks twice a second at a dead server is a nuisance.
  await page.waitForTimeout(4000);
  proxy.up();
  await tap.waits(page, 'it comes back by itself', connected, null, 15000);
  await tap.waits(page, 'with the conversation', () => [...document.querySelectorAll('.row.user .body')].some((row) => row.textContent === 'Remember this line, please.'));
  await page.press('#message-input', 'Enter');
  await tap.waits(page, 'and the kept line can be sent', () => [...document.querySelectorAll('.row.user .body')].at(-1)?.textContent === 'This must not be lost.');
  await tap.waits(page, 'and is answered', () => [...document.querySelectorAll('.row')].at(-1)?.matches('.agent:not(.coming)'), null, ANSWER_MS);
  await close();
  proxy.close();
}

async function voiceReconnects() {
  const proxy = await startProxy(URL_UNDER_TEST);
  const { page, close } = await openBrowser({ args: [...fake, '--use-fake-ui-for-media-stream'], permissions: ['microphone'] });
  await page.goto(proxy.url);
  await page.waitForFunction(connected);
  await page.click('#mic-button');
  await tap.waits(page, 'a voice session opens', () => window.choir.stats().micOn && window.choir.stats().session);
  proxy.down();
  await tap.waits(page, 'it ends with the server', () => !window.choir.stats().session);
  await page.waitForTimeout(1500);
  proxy.up();
  await tap.waits(page, 'and comes back with the microphone still on', () => window.choir.stats().micOn && window.choir.stats().session, null, 20000);
  const dropped = (await page.evaluate(() => window.choir.stats())).framesDropped;
  await page.waitForTimeout(600);
  tap.is((await page.evaluate(() => window.choir.stats())).framesDropped, dropped, 'sound flows again');
  await close();
  proxy.close();
}

/** @param {string} reason @param {object} options of the browser @param {boolean} [press] only asking tells */
async function microphone(reason, options, press = false) {
  const { page, close } = await openBrowser(options);
  await page.goto(URL_UNDER_TEST);
  await page.waitForFunction(connected);
  if (press) await page.click('#mic-button');
  await tap.waits(page, `no microphone (${reason}): the page says so`, (want) => {
    const note = document.getElementById('mic-note');
    return !note.hidden && note.dataset.reason === want && note.textContent.startsWith('No microphone:');
  }, reason);
  await page.fill('#message-input', `Typing works (${reason}).`);
  await page.press('#message-input', 'Enter');
  await tap.waits(page, `no microphone (${reason}): typing works`, (text) => [...document.querySelectorAll('.row.user .body')].at(-1)?.textContent === text, `Typing works (${reason}).`);
  await page.screenshot({ path: join(OUT, `trouble-${reason}.png`) });
  await page.keyboard.press('Escape');
  await page.waitForTimeout(300);
  await close();
}

await tap.step('reconnect', reconnects);
await tap.step('voice reconnects', voiceReconnects);
// Plain http from another machine: browsers then hide mediaDevices and say that the context is insecure.
await tap.step('insecure', () =>
  microphone('insecure', {
    before: () => {
      Object.defineProperty(window, 'isSecureContext', { value: false });
      Object.defineProperty(navigator, 'mediaDevices', { value: undefined });
    },
  }),
);
await tap.step('worklet', () => microphone('worklet', { args: fake, before: () => delete window.AudioWorkletNode }));
await tap.step('none', () => microphone('none', { permissions: ['microphone'] }));
await tap.step('denied', () => microphone('denied', { args: [...fake, '--deny-permission-prompts'] }, true));
await tap.step('busy', () =>
  microphone('busy', {
    args: [...fake, '--use-fake-ui-for-media-stream'],
    permissions: ['microphone'],
    before: () => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('Could not start audio source', 'NotReadableError'));
    },
  }, true),
);
tap.end();
