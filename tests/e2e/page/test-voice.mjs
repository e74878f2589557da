// The page, spoken: a recording plays into the microphone, an answer is heard, and speech over it silences it.
//   CHOIR_SPEECH=FILE.wav (16-bit mono, real speech; default jfk.wav of CHOIR_DATA)  CHOIR_URL=…  node test-voice.mjs
import { join } from 'node:path';
import { openBrowser, OUT, Tap, URL_UNDER_TEST, warm } from './browser.mjs';
import { padded, readWav, writeWav } from './wav.mjs';
import { existsSync, mkdirSync } from 'node:fs';

const ANSWER_MS = Number(process.env.CHOIR_ANSWER_MS ?? 120000);
const tap = new Tap();
const stats = (page) => page.evaluate(() => window.choir.stats());

/** The page's own figures could flatter it: this listens to what the <audio> element is given. */
async function listen(page) {
  await page.evaluate(async () => {
    const element = document.getElementById('voice-out');
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 1024;
    const samples = new Float32Array(1024);
    window.ears = { peak: 0, lastLoud: 0, element: !element.paused };
    context.createMediaStreamSource(element.srcObject).connect(analyser);
    setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      let sum = 0;
      for (const sample of samples) sum += sample * sample;
      const level = Math.sqrt(sum / samples.length);
      window.ears.peak = Math.max(window.ears.peak, level);
      if (level > 0.003) window.ears.lastLoud = performance.now();
    }, 10);
  });
}

async function spokenTurn(page) {
  await page.click('#mic-button');
  await tap.waits(page, 'the microphone opens', () => window.choir.stats().micOn);
  await listen(page);
  await tap.waits(page, 'the level meter moves', () => Number(/scaleX\(([\d.]+)/.exec(document.getElementById('meter-fill').style.transform)?.[1]) > 0.3);
  await tap.waits(page, 'speech is noticed', () => window.choir.stats().hearing, null, 20000);
  await tap.waits(page, 'the face listens', () => document.getElementById('robot-art').dataset.face === 'listening');
  await page.screenshot({ path: join(OUT, 'voice-listening.png') });
  await tap.waits(page, 'what was said appears as text', () => document.querySelector('.row.user .body')?.textContent.trim().length > 3, null, ANSWER_MS);
  tap.note(`it was understood as: ${await page.textContent('.row.user .body')}`);
  await tap.waits(page, 'an answer is spoken', () => window.choir.stats().playing && window.choir.stats().loud > 2000, null, ANSWER_MS);
  await tap.waits(page, 'the face speaks', () => document.getElementById('robot-art').dataset.face === 'speaking');
  await tap.waits(page, 'the audio element really sounds', () => window.ears.peak > 0.01);
  await page.screenshot({ path: join(OUT, 'voice-speaking.png') });
  tap.is((await stats(page)).route, 'element', 'playback goes through a media element, the reference of echo cancellation');
}

async function interrupt(page) {
  // A long answer, typed, so that there is time to talk over it. The recording starts anew with the microphone.
  await page.click('#mic-button');
  await tap.waits(page, 'the microphone closes', () => !window.choir.stats().micOn);
  await page.fill('#message-input', 'Tell me a long story about a lighthouse, a ship and a storm. Use many sentences.');
  await page.press('#message-input', 'Enter');
  await page.waitForTimeout(300);
  const before = (await stats(page)).loud;
  await tap.waits(page, 'a typed turn is spoken too', (loud) => window.choir.stats().playing && window.choir.stats().loud > loud + 4000, before, ANSWER_MS);
  const flushes = (await stats(page)).flushes;
  await page.evaluate(() => {
    // The moment at which the page learns of the speech, to time the silence that must follow.
    window.cut = 0;
    const timer = setInterval(() => {
      if (!window.choir.stats().hearing) return;
      window.cut = performance.now();
      clearInterval(timer);
    }, 2);
  });
  await page.click('#mic-button');
  await tap.waits(page, 'speech over the reply is noticed', () => window.cut > 0, null, 20000);
  await page.waitForTimeout(700);
  const after = await page.evaluate(() => ({ ...window.choir.stats(), silence: window.ears.lastLoud - window.cut }));
  tap.ok(after.flushes > flushes, 'the player was flushed');
  tap.ok(!after.playing, 'and plays no more');
  // The analyser looks back over 1024 samples and the element buffers: 250 ms is far below a reply that goes on.
  tap.ok(after.silence < 250, `silence ${Math.round(after.silence)} ms after the page knew (player emptied in ${after.flushMs.toFixed(1)} ms)`);
  await tap.waits(page, 'the transcript keeps the words that were heard', () => document.querySelector('.row.agent.cut'), null, 20000);
}

async function pushToTalk(page) {
  await page.click('#mode-hold');
  tap.is((await stats(page)).micOn, false, 'hold-to-talk closes the open microphone');
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => !document.querySelector('.row.coming'), null, { timeout: ANSWER_MS });
  const before = await page.locator('.row.user').count();
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.down('Space');
  await tap.waits(page, 'the space bar opens it', () => window.choir.stats().micOn && document.getElementById('mic-button').classList.contains('live'));
  await page.waitForTimeout(Number(process.env.CHOIR_HOLD_MS ?? 5000));
  await page.keyboard.up('Space');
  await tap.waits(page, 'letting go ends it', () => document.getElementById('mic-button').getAttribute('aria-pressed') === 'false', null, 2000);
  await tap.waits(page, 'a held turn is understood', (count) => document.querySelectorAll('.row.user').length > count, before, ANSWER_MS);
  await tap.waits(page, 'and answered', () => [...document.querySelectorAll('.row')].at(-1)?.matches('.agent'), null, ANSWER_MS);
  await page.keyboard.press('Escape');
}

const source = process.env.CHOIR_SPEECH ?? join(process.env.CHOIR_DATA ?? '.', 'jfk.wav');
if (!existsSync(source)) {
  tap.skip('a spoken turn in the browser', `there is no recording ${source}; CHOIR_SPEECH names another`);
  tap.end();
} else {
  mkdirSync(OUT, { recursive: true });
  const { rate, pcm } = readWav(source);
  const caller = join(OUT, 'caller.wav');
  writeWav(caller, rate, padded(pcm, rate, 0.5, 60));
  const args = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', `--use-file-for-fake-audio-capture=${caller}%noloop`];
  const { page, problems, close } = await openBrowser({ args, permissions: ['microphone'] });
  await page.goto(URL_UNDER_TEST);
  await page.waitForFunction(warm, null, { timeout: 180000 });
  problems.length = 0;
  await page.click('#new-conversation');
  await page.waitForFunction(() => document.getElementById('talk').classList.contains('is-empty'));
  tap.ok(!(await page.isVisible('#mic-note')), 'nothing is said against the microphone');
  await tap.step('spoken turn', () => spokenTurn(page));
  await tap.step('interruption', () => interrupt(page));
  await tap.step('push to talk', () => pushToTalk(page));
  tap.note(`figures: ${JSON.stringify(await stats(page))}`);
  tap.is(problems.join('\n'), '', 'the console stayed empty');
  await close();
  tap.end();
}
