// Takes the pictures for looking at the page: dark, light, phone, empty and in conversation.
//   CHOIR_URL=… node shots.mjs [name prefix]
//   CHOIR_URL=… node shots.mjs readme      docs/screenshot.png, from a running daemon that answers
import { join } from 'node:path';
import { openBrowser, OUT, URL_UNDER_TEST, warm } from './browser.mjs';

const prefix = process.argv[2] ?? 'page';
const ask = async (page, text) => {
  await page.fill('#message-input', text);
  await page.press('#message-input', 'Enter');
};

/** A real conversation, taken while the second answer is spoken. */
async function readme() {
  const args = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'];
  const { page, close } = await openBrowser({ args, width: 1360, height: 850, permissions: ['microphone'] });
  const spoken = (count) => page.waitForFunction((n) => document.querySelectorAll('.row.agent:not(.coming)').length >= n && !window.choir.stats().playing, count, { timeout: 120000 });
  await page.goto(URL_UNDER_TEST);
  await page.waitForFunction(warm, null, { timeout: 180000 });
  await page.waitForFunction(async () => (await (await fetch('/api/status')).json()).engines.tts.ready, null, { timeout: 180000, polling: 1000 });
  await page.click('#new-conversation');
  await page.waitForTimeout(1000);
  await ask(page, 'Hello! Who are you?');
  await spoken(1);
  await ask(page, 'Why do leaves turn red in autumn?');
  await page.waitForFunction(() => window.choir.stats().playing && [...document.querySelectorAll('.row.agent .body')].at(-1).textContent.length > 150, null, { timeout: 120000 });
  await page.waitForTimeout(400);
  await page.screenshot({ path: join(OUT, '../../../docs/screenshot.png') });
  await close();
}

if (prefix === 'readme') {
  await readme();
  process.exit(0);
}

for (const [name, width, height, dark] of [['light', 1440, 900, false], ['dark', 1440, 900, true], ['phone', 390, 844, false], ['phone-dark', 390, 844, true]]) {
  const { page, close } = await openBrowser({ width, height, dark, touch: width < 500 });
  const shot = (what) => page.screenshot({ path: join(OUT, `${prefix}-${name}-${what}.png`) });
  await page.goto(URL_UNDER_TEST);
  await page.waitForSelector('.tile', { state: 'attached' });
  await page.waitForTimeout(600);
  await shot('empty');
  await ask(page, 'How does a monitor make its picture?');
  await page.waitForFunction(() => document.querySelectorAll('.row.agent:not(.coming)').length > 0, null, { timeout: 60000 });
  await ask(page, 'Tell me about the sea at night');
  await page.waitForTimeout(2600);
  await shot('talk');
  if (width < 1180) {
    await page.click('#open-right');
    await page.waitForTimeout(400);
    await shot('status');
  } else {
    await page.keyboard.press('Escape');
    await page.click('#choose-model');
    await page.waitForTimeout(300);
    await shot('models');
  }
  await close();
}
