// What the agent may do and what it did, on the page: approvals, tools, audit, tool lines, barriers. Against a real daemon
// whose unix socket, CHOIR_STATE/choir.sock, is the only thing that may say yes before an owner exists.
import { existsSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { openBrowser, OUT, Tap, URL_UNDER_TEST } from './browser.mjs';
import { startProxy } from './proxy.mjs';

const tap = new Tap();
const STATE = process.env.CHOIR_STATE ?? '';
const SOCKET = join(STATE, 'choir.sock');
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const BIDI = '\u202e';

/** One request, over TCP as any program of this machine, or through the unix socket as its terminal. */
function ask(path, body, { terminal = false } = {}) {
  const { hostname, port, host } = new URL(URL_UNDER_TEST);
  const where = terminal ? { socketPath: SOCKET } : { hostname, port };
  return new Promise((resolve, reject) => {
    const sent = request({ ...where, path, method: body ? 'POST' : 'GET', headers: { host, 'Content-Type': 'application/json' } }, async (answer) => {
      let text = '';
      for await (const piece of answer) text += piece;
      resolve({ status: answer.statusCode, json: JSON.parse(text) });
    });
    sent.on('error', reject);
    sent.end(body ? JSON.stringify(body) : undefined);
  });
}

/** A call that asks, as another program makes it; settles when it was answered. */
const call = (command, more = {}) => ask('/api/tools/call', { tool: 'shell.execute_command', args: { command, host: true, ...more } });
const waiting = async () => (await ask('/api/approvals')).json.approvals;
const cards = (count) => document.querySelectorAll('.approval').length === count;

async function settled(promise) {
  return Promise.race([promise, new Promise((resolve) => setTimeout(() => resolve({ status: 0, json: 'still waits' }), 30000))]);
}

async function barriers(page, what) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(AXE);
  const found = await page.evaluate(async () => (await window.axe.run()).violations.filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(' ')).join(', ')}`));
  tap.is(found.join('\n'), '', `axe finds nothing serious: ${what}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  tap.is(wide, 0, `nothing sticks out: ${what}`);
}

async function go(page, view) {
  await page.evaluate((name) => (location.hash = `#${name}`), view);
  if (view !== 'talk') await page.waitForSelector(`#view-${view}:not([hidden])`);
}

/** Plain loopback: sees everything, may answer nothing. */
async function watched(page) {
  await page.goto(URL_UNDER_TEST);
  await page.waitForFunction(() => document.getElementById('status-light').dataset.light !== 'off');
  tap.ok(await page.isHidden('#approvals'), 'without a request there is no queue');
  const marker = `mind-${process.pid}`;
  const command = `echo <img src=x onerror=window.hacked=1> ${BIDI}# ${marker}`;
  const refused = call(command);
  await tap.waits(page, 'a request appears by itself', cards, 1);
  const text = await page.textContent('.approval');
  tap.ok(text.includes(`echo <img src=x onerror=window.hacked=1> ⟨U+202E⟩# ${marker}`), 'the card shows the exact command, with what would reorder it made visible', text);
  tap.ok(text.includes('shell.execute_command') && text.includes('on this machine') && text.includes('changes something') && text.includes('leave the sandbox'), 'tool, target, class and reason stand on it', text);
  const left = () => page.textContent('.approval .clock').then((words) => Number(/(\d+) s/.exec(words)?.[1]));
  const before = await left();
  await page.waitForTimeout(2200);
  const after = await left();
  tap.ok(before <= 120 && after < before && after > 0, `the countdown runs (${before} s, ${after} s)`);
  tap.ok((await page.textContent('#approvals-live')).includes('shell.execute_command on this machine'), 'a screen reader is told');
  tap.is(await page.title(), '(1) Mission Control', 'and so is who looks at another tab');
  tap.ok((await page.textContent('#approvals-how')).includes('choir approve'), 'the page says how to answer, since it may not');
  tap.is(await page.locator('.approval button:enabled').count(), 0, 'its buttons are dead');
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press('y');
  await page.waitForTimeout(300);
  tap.is((await waiting()).length, 1, 'and so is its key y');
  const [card] = await waiting();
  const self = await ask('/api/approvals/answer', { id: card.id, digest: card.digest, approve: true });
  tap.is(self.status, 403, 'plain loopback is refused by the server, too');
  await page.reload();
  await tap.waits(page, 'the queue survives a reload', cards, 1);
  await barriers(page, 'a request that may not be answered');

  const no = await ask('/api/approvals/answer', { id: card.id, digest: card.digest, approve: false }, { terminal: true });
  tap.is(no.status, 200, 'a terminal says no');
  await tap.waits(page, 'and the card closes', cards, 0);
  const end = await settled(refused);
  tap.ok(end.status === 403 && end.json.error.message.includes('a person said no'), 'nothing was done', JSON.stringify(end));
  tap.is(await page.title(), 'Mission Control', 'the title is itself again');

  const granted = call(`printf %s ${marker} > ${marker}.txt && cat ${marker}.txt && rm ${marker}.txt`);
  await tap.waits(page, 'the next request appears', cards, 1);
  const [next] = await waiting();
  await ask('/api/approvals/answer', { id: next.id, digest: next.digest, approve: true }, { terminal: true });
  await tap.waits(page, 'a terminal says yes, and the card closes', cards, 0);
  const done = await settled(granted);
  tap.ok(done.status === 200 && done.json.text.includes(marker), 'and it really ran', JSON.stringify(done));
  tap.is(await page.evaluate(() => window.hacked), undefined, 'markup in a command stayed text');
}

/** The page's requests go through the unix socket: this one may answer. */
async function answers(page, url) {
  await page.goto(url);
  await page.waitForFunction(() => document.getElementById('status-light').dataset.light !== 'off');
  const first = call('echo first');
  await tap.waits(page, 'a page that may answer shows the request', cards, 1);
  const second = call('echo second');
  await tap.waits(page, 'several wait at once', cards, 2);
  tap.ok(await page.isHidden('#approvals-how'), 'nothing says how to answer elsewhere');
  await barriers(page, 'requests that may be answered');
  await page.focus('#message-input');
  await page.keyboard.type('yny');
  tap.ok((await page.inputValue('#message-input')) === 'yny' && (await waiting()).length === 2, 'y and n in the message box are letters');
  await page.fill('#message-input', '');

  // Twice in one breath: the second was meant for the first.
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press('y');
  await page.keyboard.press('y');
  const one = await settled(first);
  tap.ok(one.status === 200 && one.json.text.includes('first'), 'the key y allows the oldest', JSON.stringify(one));
  await tap.waits(page, 'which leaves', cards, 1);
  tap.is((await waiting()).length, 1, 'a second y at once does not allow the next one');
  await page.keyboard.press('n');
  const two = await settled(second);
  tap.is(two.status, 403, 'the key n denies');

  const third = call('echo third');
  const fourth = call('echo fourth');
  await tap.waits(page, 'two more', cards, 2);
  const texts = await page.locator('.approval').allTextContents();
  const at = texts.findIndex((text) => text.includes('echo fourth'));
  await page.locator('.approval .deny').nth(at).focus();
  await page.keyboard.press('n');
  const four = await settled(fourth);
  tap.is(four.status, 403, 'with the keyboard on a card its keys are for that card');
  await tap.waits(page, 'the other one stays', cards, 1);
  tap.ok(await page.evaluate(() => document.getElementById('approvals').contains(document.activeElement)), 'and the keyboard goes to it');
  await page.waitForTimeout(700);
  await page.check('.approval input[type=checkbox]');
  await page.click('.approval .allow');
  const three = await settled(third);
  tap.ok(three.status === 200 && three.json.text.includes('third'), 'the button allows', JSON.stringify(three));
  await tap.waits(page, 'the queue is empty', cards, 0);
  const fifth = await settled(call('echo fifth'));
  tap.ok(fifth.status === 200, '“also for this session” lets the same action pass', JSON.stringify(fifth));
}

async function tools(page) {
  await page.click('#go-tools');
  await page.waitForSelector('#tools-list .entry');
  const { json } = await ask('/api/tools');
  const ids = await page.evaluate(() => [...document.querySelectorAll('#tools-list .entry')].map((item) => item.dataset.id));
  tap.is(ids.join(), json.tools.map((tool) => tool.id).join(), `all ${json.tools.length} tools are listed`);
  for (const tool of json.tools) {
    const text = await page.textContent(`#tools-list [data-id="${tool.id}"]`);
    const wanted = tool.available ? ['available', tool.help] : ['not available', tool.reason, tool.remedy];
    const lacks = [...wanted, ...tool.actions.map((action) => `${tool.id}.${action.name}`), ...tool.actions.map((action) => action.help)].filter((part) => part && !text.includes(part));
    if (lacks.length) tap.ok(false, `${tool.id} is shown whole`, lacks.join('\n'));
  }
  tap.is(await page.textContent('#sandbox-mode'), `Sandbox: ${json.sandbox}`, 'the mode of the sandbox is named');
  await page.check('#tools-only');
  tap.is(await page.locator('#tools-list .entry').count(), json.tools.filter((tool) => tool.available).length, 'only what is available');
  await page.uncheck('#tools-only');
  await page.fill('#tools-search', 'zzz-no-tool');
  tap.is(await page.locator('#tools-list .entry').count(), 0, 'the search filters');
  await page.fill('#tools-search', '');
  await page.locator('#tools-list summary').first().click();
  await tap.waits(page, 'what was allowed for the session is shown', () => document.querySelector('#grants-list li')?.textContent.includes('shell.execute_command on this machine'));
  await barriers(page, 'tools');
  await page.locator('#grants-list button').first().click();
  await tap.waits(page, 'and can be revoked', () => document.getElementById('grants').hidden);
  const again = call('echo again');
  await tap.waits(page, 'then the same action asks again, over any view', cards, 1);
  await page.waitForTimeout(700);
  await page.click('.approval .deny');
  tap.is((await settled(again)).status, 403, 'and is denied there');
  await page.focus('#tools-title');
  await page.keyboard.press('Escape');
  await tap.waits(page, 'Esc leads back to the conversation', () => document.body.dataset.view === 'talk' && document.activeElement.id === 'message-input');
}

async function audit(page) {
  await ask('/api/tools/call', { tool: 'mcp.get_status', args: {} });
  await page.click('#go-audit');
  await page.waitForSelector('#audit-list .audit-entry');
  const { json } = await ask('/api/audit?n=200');
  tap.is(await page.locator('#audit-list .audit-entry').count(), json.entries.length, 'the newest entries are shown');
  await tap.waits(page, 'the chain is checked', () => /whole/.test(document.getElementById('audit-chain').textContent));
  const first = await page.textContent('#audit-list li');
  tap.ok(first.includes('mcp.get_status') && first.includes('result'), 'the newest first', first);
  await page.selectOption('#audit-tool', 'shell');
  const shell = json.entries.filter((entry) => entry.tool?.startsWith('shell.')).length;
  tap.is(await page.locator('#audit-list .audit-entry').count(), shell, 'the filter leaves one tool');
  await page.locator('#audit-list summary').first().click();
  tap.ok((await page.textContent('#audit-list li')).includes('prev'), 'an entry unfolds to all it says');
  tap.ok((await page.textContent('#audit-list')).includes('a person said no'), 'a denial is there with its words');
  await barriers(page, 'audit log');
  await page.reload();
  await tap.waits(page, 'a reload comes back to this view', () => document.body.dataset.view === 'audit' && document.querySelector('#audit-list .audit-entry'));
  await go(page, 'talk');
}

/** What the agent does in a turn, as small lines; the events are the daemon's own. */
async function lines(page) {
  await page.fill('#message-input', 'run the command echo <b>hi</b>');
  await page.press('#message-input', 'Enter');
  const came = await tap.waits(page, 'a tool that is used in a turn is a line of the conversation', () => document.querySelector('.row.tool summary'), null, 90000);
  if (!came) return;
  await tap.waits(page, 'which stands before the reply', () => [...document.querySelectorAll('.row')].at(-1).matches('.agent:not(.coming)') && [...document.querySelectorAll('.row')].at(-2).matches('.tool'), null, 90000);
  await page.click('.row.tool summary');
  const row = await page.evaluate(() => {
    const one = document.querySelector('.row.tool');
    return { text: one.textContent, markup: one.querySelectorAll('dd b, pre b, img').length };
  });
  const { json } = await ask('/api/audit?n=20');
  const run = json.entries.find((entry) => entry.kind === 'tool');
  tap.ok(row.text.includes(run.tool) && Object.values(run.args).every((value) => row.text.includes(String(value))), 'with its name and arguments', `${row.text}\n${JSON.stringify(run)}`);
  tap.is(row.markup, 0, 'as text');
  await barriers(page, 'a tool line');
}

/** The health questions: real answers first, then a model that knows nothing. */
async function health(page) {
  const run = async () => {
    await page.click('#test-and-evaluation-btn');
    await page.waitForFunction(() => /checks passed/.test(document.querySelector('#health-summary').textContent), null, { timeout: 240000 });
    return page.evaluate(() => ({
      summary: document.querySelector('#health-summary').textContent,
      items: [...document.querySelectorAll('#health-results li')].map((item) => ({ good: item.dataset.good === 'true', text: item.textContent })),
    }));
  };
  await go(page, 'talk');
  const real = await run();
  const good = real.items.filter((item) => item.good).length;
  tap.is(real.items.length, 4, 'four things are checked');
  tap.ok(real.summary.startsWith(good === 4 ? 'All 4' : `${good} of 4`), 'the count is that of the list', JSON.stringify(real));
  tap.ok(/Madrid/.test(real.items[1].text) && real.items[1].good, 'the model was really asked', JSON.stringify(real));
  await page.route('**/v1/chat/completions', (route) => route.fulfill({ json: { choices: [{ message: { content: 'No idea.' } }] } }));
  const lost = await run();
  await page.unroute('**/v1/chat/completions');
  tap.ok(lost.items.slice(1).every((item) => !item.good && item.text.includes('No idea.')), 'a wrong answer is shown and fails', JSON.stringify(lost));
}

async function everywhere(url) {
  for (const [name, width, dark] of [['light', 1440, false], ['dark', 1440, true], ['phone', 390, false], ['phone, dark', 390, true]]) {
    const { page, problems, close } = await openBrowser({ width, height: 844, dark, touch: width < 500 });
    await page.goto(url);
    const pending = call('echo looked at');
    await page.waitForFunction(cards, 1, { timeout: 15000 });
    const views = await page.evaluate(() => [...document.querySelectorAll('#views a:not([hidden])')].map((link) => link.id.slice(3)));
    for (const view of views) {
      await go(page, view);
      await page.waitForTimeout(400);
      await page.screenshot({ path: join(OUT, `mind-${name.replace(', ', '-')}-${view}.png`) });
      await barriers(page, `${view}, ${name}`);
    }
    await page.waitForTimeout(300);
    await page.click('.approval .deny');
    await settled(pending);
    tap.is(problems.join('\n'), '', `the console stayed empty: ${name}`);
    await close();
  }
}

if (!existsSync(SOCKET)) {
  tap.skip('approvals, tools and audit on the page', 'CHOIR_STATE names no state folder of a running daemon');
} else {
  const proxy = await startProxy(URL_UNDER_TEST, SOCKET);
  const { page, problems, close } = await openBrowser();
  await tap.step('watched', () => watched(page));
  await tap.step('answers', () => answers(page, proxy.url));
  await tap.step('tools', () => tools(page));
  await tap.step('audit', () => audit(page));
  await tap.step('lines', () => lines(page));
  await tap.step('health', () => health(page));
  tap.is(problems.join('\n'), '', 'the console stayed empty');
  await close();
  await tap.step('everywhere', () => everywhere(proxy.url));
  proxy.close();
}
tap.end();
