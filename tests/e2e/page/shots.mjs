// Takes the pictures for looking at the page: dark, light, phone, empty and in conversation.
//   CHOIR_URL=… node shots.mjs [name prefix]
import { join } from 'node:path';
import { openBrowser, OUT, URL_UNDER_TEST } from './browser.mjs';

const prefix = process.argv[2] ?? 'page';
const ask = async (page, text) => {
  await page.fill('#message-input', text);
  await page.press('#message-input', 'Enter');
};

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
