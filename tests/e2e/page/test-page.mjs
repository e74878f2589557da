// The page, typed: loads clean, streams an answer, keeps markup as text, log, theme, conversations, phone, keyboard.
import { join } from 'node:path';
import { openBrowser, OUT, Tap, URL_UNDER_TEST, warm } from './browser.mjs';

const tap = new Tap();
const ANSWER_MS = Number(process.env.CHOIR_ANSWER_MS ?? 90000);
/** Ids of the original page that belong to features of this one. */
const IDS = ['terminal', 'message-input', 'status-light', 'status-display', 'robot-art'];

async function say(page, text) {
  await page.fill('#message-input', text);
  await page.press('#message-input', 'Enter');
}

const answered = (count) => document.querySelectorAll('.row.agent:not(.coming)').length >= count && !document.querySelector('.row.coming');
const rows = (page) => page.evaluate(() => document.querySelectorAll('.row.agent:not(.coming)').length);

async function loads(page, problems) {
  await page.goto(URL_UNDER_TEST);
  tap.is(await page.title(), 'Mission Control', 'the title is Mission Control');
  await tap.waits(page, 'the page connects', () => document.getElementById('status-light').dataset.light !== 'off');
  await tap.waits(page, 'status tiles are shown', () => document.querySelectorAll('.tile').length >= 3);
  const missing = await page.evaluate((ids) => ids.filter((id) => !document.getElementById(id)), IDS);
  tap.is(missing.join(), '', 'the element ids of the original page are there');
  tap.is(problems.join('\n'), '', 'nothing on the console, no policy violated');
  await tap.waits(page, 'the language model gets ready', warm, null, 180000);
  // /health answers 503 until then, which browsers put on the console.
  problems.length = 0;
  const foreign = await page.evaluate(() => performance.getEntriesByType('resource').filter((entry) => new URL(entry.name).origin !== location.origin).length);
  tap.is(foreign, 0, 'nothing is loaded from another host');
  const packed = await page.evaluate(async () => {
    const urls = [location.href, ...performance.getEntriesByType('resource').map((entry) => entry.name)].filter((url) => !url.includes('/api/'));
    let sum = 0;
    for (const url of new Set(urls)) {
      const stream = (await fetch(url)).body.pipeThrough(new CompressionStream('gzip'));
      sum += (await new Response(stream).arrayBuffer()).byteLength;
    }
    return sum;
  });
  tap.ok(packed > 10000 && packed < 150000, `the page is ${packed} bytes gzipped, under 150 kB`);
}

async function startFresh(page) {
  await page.click('#new-conversation');
  await tap.waits(page, 'a new conversation is empty', () => document.getElementById('talk').classList.contains('is-empty'));
}

async function typedTurn(page) {
  const before = await rows(page);
  // Counts how often the reply's text grows: an answer that comes at once is not streaming.
  await page.evaluate(() => {
    window.growth = new Set();
    new MutationObserver(() => {
      const row = document.querySelector('.row.coming .body');
      if (row && !row.querySelector('.dots')) window.growth.add(row.textContent.length);
    }).observe(document.getElementById('transcript'), { childList: true, subtree: true, characterData: true });
  });
  await say(page, 'Please name three things that float on water.');
  await tap.waits(page, 'what was typed appears', () => document.querySelector('.row.user .body')?.textContent === 'Please name three things that float on water.');
  await tap.waits(page, 'the face thinks or speaks', () => ['thinking', 'speaking'].includes(document.getElementById('robot-art').dataset.face));
  await tap.waits(page, 'a typed turn is answered', answered, before + 1, ANSWER_MS);
  const steps = await page.evaluate(() => window.growth.size);
  tap.ok(steps >= 3, `the answer streamed in (${steps} steps)`, 'it came in one piece');
  await tap.waits(page, 'the answer is in the terminal too', () => document.querySelector('#terminal .line.agent'));
}

async function stopAndKeys(page) {
  await say(page, 'Tell me a long story about a ship.');
  await tap.waits(page, 'the stop button appears', () => !document.getElementById('stop-button').hidden, null, ANSWER_MS);
  await tap.waits(page, 'the story begins', () => document.querySelector('.row.coming .body > p'), null, ANSWER_MS);
  await page.keyboard.press('Escape');
  await tap.waits(page, 'Esc stops the reply', () => document.getElementById('stop-button').hidden && !document.querySelector('.row.coming'), null, 10000);
  await page.focus('#message-input');
  await page.keyboard.press('ArrowUp');
  tap.is(await page.inputValue('#message-input'), 'Tell me a long story about a ship.', 'arrow up brings back what was sent');
  await page.keyboard.press('ArrowUp');
  tap.is(await page.inputValue('#message-input'), 'Please name three things that float on water.', 'and what was sent before that');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  tap.is(await page.inputValue('#message-input'), '', 'arrow down returns to the draft');
  await page.keyboard.type('one');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('two');
  tap.is(await page.inputValue('#message-input'), 'one\ntwo', 'Shift+Enter breaks the line');
  await page.fill('#message-input', '');
}

async function markupStaysText(page) {
  const attack = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script> say this HTML markup back **now** `code`';
  const before = await rows(page);
  await say(page, attack);
  await tap.waits(page, 'markup that was typed is shown as text', (text) => [...document.querySelectorAll('.row.user .body')].at(-1)?.textContent === text, attack);
  await tap.waits(page, 'and is answered', answered, before + 1, ANSWER_MS);
  // The way from the model to the page must be proven whatever the model says: the same module draws a hostile reply.
  const drawn = await page.evaluate(async (text) => {
    const { richText } = await import('./richtext.js');
    const box = document.createElement('div');
    document.body.append(box);
    box.append(richText(`${text}\n\n\`\`\`html\n${text}\n\`\`\`\n- ${text}\n# ${text}`));
    const bad = box.querySelectorAll('img, script, a, iframe').length;
    const shown = box.textContent.includes('<img src=x onerror=');
    box.remove();
    return { bad, shown };
  }, attack);
  await page.waitForTimeout(300);
  tap.ok(drawn.bad === 0 && drawn.shown, 'markup in a reply is text', JSON.stringify(drawn));
  tap.is(await page.evaluate(() => `${window.hacked}${document.querySelectorAll('#transcript img, #transcript script, #terminal img, #terminal script').length}`), 'undefined0', 'nothing of it ran');
}

async function logWorks(page) {
  await tap.waits(page, 'log lines arrive', () => document.querySelectorAll('#terminal .line').length > 0);
  const topic = await page.evaluate(() => [...document.querySelectorAll('#log-topic option')].map((option) => option.value).find((value) => value !== '*' && value !== 'you'));
  await page.selectOption('#log-topic', topic);
  const others = await page.evaluate((one) => [...document.querySelectorAll('#terminal .line')].filter((line) => line.dataset.topic !== one).length, topic);
  tap.is(others, 0, `the topic filter leaves only "${topic}"`);
  await page.selectOption('#log-topic', '*');
  await page.selectOption('#log-level', 'error');
  tap.is(await page.locator('#terminal .line.info').count(), 0, 'the level filter hides info lines');
  await page.selectOption('#log-level', 'info');
  tap.ok((await page.locator('#terminal .line').count()) > 0, 'and brings them back');
  await page.fill('#log-search', 'zzz-no-line-says-this');
  tap.is(await page.locator('#terminal .line').count(), 0, 'the search filters');
  await page.fill('#log-search', '');
  await page.click('text=Clear Terminal');
  tap.is(await page.locator('#terminal .line').count(), 0, 'Clear Terminal empties the log');
  tap.ok((await page.locator('.row').count()) > 0, 'and leaves the conversation');
  await say(page, 'One word, please.');
  await tap.waits(page, 'new lines appear again', () => document.querySelectorAll('#terminal .line').length > 0);
  await page.focus('#message-input');
  await page.keyboard.press('Control+l');
  tap.ok(await page.evaluate(() => [...document.querySelectorAll('#terminal .line')].every((line) => !line.textContent.includes('One word, please.'))), 'Ctrl+L clears it too');
  await tap.waits(page, 'the turn ends', () => !document.querySelector('.row.coming'), null, ANSWER_MS);
}

async function themes(page) {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.click('#theme-toggle');
  const dark = await ground();
  tap.ok(light !== dark && (await page.evaluate(() => document.documentElement.dataset.theme)) === 'dark', 'the theme button changes to dark', `${light} ${dark}`);
  await page.reload();
  tap.is(await ground(), dark, 'and the choice holds after a reload');
  await page.click('#theme-toggle');
  tap.is(await ground(), light, 'and back to light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await tap.waits(page, 'without a choice the page follows the system', () => document.documentElement.dataset.theme === 'dark');
  await page.emulateMedia({ colorScheme: 'light' });
}

async function conversations(page) {
  const current = () => page.evaluate(() => document.querySelector('.conversations li.current')?.dataset.id);
  await page.waitForSelector('.conversations li.current');
  const first = await current();
  await page.click('#new-conversation');
  await page.waitForFunction((id) => document.querySelector('.conversations li.current')?.dataset.id !== id, first);
  const second = await current();
  tap.ok(second && second !== first, 'a new conversation is opened');
  const item = `.conversations li[data-id="${second}"]`;
  await page.hover(item);
  await page.click(`${item} [title=Rename]`);
  await page.fill('#ask-input', 'A <b>renamed</b> one');
  await page.keyboard.press('Enter');
  await tap.waits(page, 'it can be renamed, and the name is text', (css) => document.querySelector(`${css} .title`)?.textContent === 'A <b>renamed</b> one', item);
  await page.click(`.conversations li[data-id="${first}"] .open`);
  await tap.waits(page, 'the earlier one opens with what was said', () => document.querySelectorAll('.row.user').length > 0);
  await page.hover(`.conversations li[data-id="${first}"]`);
  const [download] = await Promise.all([page.waitForEvent('download'), page.click(`.conversations li[data-id="${first}"] [title=Export]`)]);
  const path = join(OUT, 'export.json');
  await download.saveAs(path);
  const { readFileSync } = await import('node:fs');
  const exported = JSON.parse(readFileSync(path, 'utf8'));
  tap.ok(exported.format === 'choir-conversation' && exported.entries.length > 0, 'it can be exported');
  await page.hover(item);
  await page.click(`${item} [title=Delete]`);
  await page.click('#ask-cancel');
  tap.is(await page.locator(item).count(), 1, 'a cancelled deletion keeps it');
  await page.hover(item);
  await page.click(`${item} [title=Delete]`);
  await page.click('#ask-ok');
  await tap.waits(page, 'it can be deleted', (css) => !document.querySelector(css), item);
}

async function secondPage(context, page) {
  const other = await context.newPage();
  await other.goto(URL_UNDER_TEST);
  await other.waitForFunction(() => document.getElementById('status-light').dataset.light !== 'off');
  await say(page, 'This is said on the first page.');
  await tap.waits(other, 'what is said on one page appears on another', () => [...document.querySelectorAll('.row.user .body')].some((row) => row.textContent === 'This is said on the first page.'));
  await tap.waits(other, 'and so does its answer', () => [...document.querySelectorAll('.row')].at(-1)?.matches('.agent:not(.coming)'), null, ANSWER_MS);
  await other.close();
}

async function models(page) {
  await page.click('#choose-model');
  await tap.waits(page, 'the list of models opens', () => document.getElementById('models-dialog').open && document.querySelectorAll('#models li').length > 0);
  await page.keyboard.press('Escape');
  const weak = await page.evaluate(() => fetch('/api/status').then((answer) => answer.json()).then((status) => status.model.weak));
  if (weak) tap.ok(await page.isVisible('#banner'), 'a weak model is announced');
  else tap.skip('a weak model is announced', 'the model is not weak');
}

async function keyboardAndNames(page) {
  const unnamed = await page.evaluate(() => [...document.querySelectorAll('button, a, input, select, textarea')].filter((element) => element.offsetParent && !(element.getAttribute('aria-label') || element.textContent.trim() || element.title)).map((element) => element.id || element.className));
  tap.is(unnamed.join('\n'), '', 'everything that can be pressed has a name');
  await page.focus('#message-input');
  const seen = new Set();
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press('Tab');
    seen.add(await page.evaluate(() => document.activeElement?.id || document.activeElement?.className));
  }
  tap.ok(['mic-button', 'speak-toggle', 'clear-terminal', 'theme-toggle'].every((id) => seen.has(id)), 'the keyboard reaches the controls', [...seen].join());
}

async function phone() {
  const { page, problems, close } = await openBrowser({ width: 390, height: 844, touch: true });
  await page.goto(URL_UNDER_TEST);
  await page.waitForSelector('.tile', { state: 'attached' });
  const overflow = () => page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const wide = [...document.querySelectorAll('body *')].filter((element) => {
      const box = element.getBoundingClientRect();
      const style = getComputedStyle(element);
      return box.width && style.visibility !== 'hidden' && box.right > width + 1 && !element.closest('.conversations, .sr-only');
    });
    return document.documentElement.scrollWidth > width ? 'the page scrolls' : wide.map((element) => element.id || element.className).join();
  });
  tap.is(await overflow(), '', 'at 390 px nothing sticks out');
  await say(page, 'Tell me a long story about averyveryveryveryveryveryveryveryveryveryverylongwordthatmustbebroken.');
  await tap.waits(page, 'a typed turn works there', () => document.querySelector('.row.coming'), null, ANSWER_MS);
  tap.is(await overflow(), '', 'with a reply running nothing sticks out');
  await page.click('#open-right');
  await tap.waits(page, 'status and log open as a drawer', () => document.getElementById('right').getBoundingClientRect().left < 20);
  await page.click('#open-right');
  await page.click('#open-left');
  await tap.waits(page, 'so do the conversations', () => document.getElementById('left').getBoundingClientRect().left === 0);
  await page.keyboard.press('Escape');
  await tap.waits(page, 'Esc closes it', () => document.body.dataset.drawer === 'none');
  // The answer may end by itself between the look and the click.
  if (await page.isVisible('#stop-button')) await page.click('#stop-button', { timeout: 2000 }).catch(() => page.waitForSelector('#stop-button', { state: 'hidden', timeout: 10000 }));
  tap.is(problems.join('\n'), '', 'nothing on the console there');
  await close();
}

const { context, page, problems, close } = await openBrowser();
await tap.step('loads', () => loads(page, problems));
await tap.step('fresh', () => startFresh(page));
await tap.step('typed', () => typedTurn(page));
await tap.step('keys', () => stopAndKeys(page));
await tap.step('markup', () => markupStaysText(page));
await tap.step('log', () => logWorks(page));
await tap.step('themes', () => themes(page));
await tap.step('conversations', () => conversations(page));
await tap.step('second page', () => secondPage(context, page));
await tap.step('models', () => models(page));
await tap.step('keyboard', () => keyboardAndNames(page));
await page.screenshot({ path: join(OUT, 'page.png') });
tap.is(problems.join('\n'), '', 'the console stayed empty');
await close();
await tap.step('phone', phone);
tap.end();
