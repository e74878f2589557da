// A Choir of its own, from nobody's to an owner's: set-up, log-in, people, keys, an approval by key in the page, the
// memory, and what the audit view says when somebody has changed the log.
import { spawn } from 'node:child_process';
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { openBrowser, OUT, Tap } from './browser.mjs';

const tap = new Tap();
const CHOIR = join(process.env.CHOIR_BUILD ?? 'build', 'choir');
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PASSWORD = 'correct horse battery';
const folder = mkdtempSync(join(tmpdir(), 'choir-owner-'));
const STATE = join(folder, 'state');
let url = '';

async function start() {
  const child = spawn(CHOIR, ['serve', '--port', '0', '--state', STATE], { stdio: ['ignore', 'pipe', 'ignore'] });
  for await (const line of createInterface({ input: child.stdout })) {
    const found = /http:\/\/127\S+/.exec(line);
    if (!found) continue;
    url = found[0].replace(/\/$/, '');
    break;
  }
  child.stdout.resume();
  return child;
}

/** Through the unix socket: a terminal of this machine, which is always the owner's. */
function terminal(path, body) {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: join(STATE, 'choir.sock'), path, method: body ? 'POST' : 'GET', headers: { host: new URL(url).host, 'Content-Type': 'application/json' } }, async (answer) => {
      let text = '';
      for await (const piece of answer) text += piece;
      resolve({ status: answer.statusCode, json: JSON.parse(text) });
    });
    sent.on('error', reject);
    sent.end(body ? JSON.stringify(body) : undefined);
  });
}

async function barriers(page, what) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(AXE);
  const found = await page.evaluate(async () => (await window.axe.run()).violations.filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(' ')).join(', ')}`));
  tap.is(found.join('\n'), '', `axe finds nothing serious: ${what}`);
}

const view = (name) => document.body.dataset.view === name;
const me = () => document.getElementById('me').textContent;

async function setUp(page) {
  await page.goto(`${url}/#access`);
  await tap.waits(page, 'before an owner exists the page offers to become one', () => !document.getElementById('setup-form').hidden);
  await page.screenshot({ path: join(OUT, 'owner-setup.png') });
  await barriers(page, 'set-up');
  const fill = async (code, password, again) => {
    await page.fill('#setup-form [name=code]', code);
    await page.fill('#setup-form [name=name]', 'ada');
    await page.fill('#setup-form [name=password]', password);
    await page.fill('#setup-form [name=again]', again);
    await page.click('#setup-form [type=submit]');
  };
  await fill('AAAA-AAAA', PASSWORD, `${PASSWORD}!`);
  await tap.waits(page, 'two different passwords are refused', () => document.querySelector('#setup-form .problem').textContent.includes('not the same'));
  await fill('AAAA-AAAA', PASSWORD, PASSWORD);
  await tap.waits(page, 'a wrong code is refused with the server’s sentence', () => document.querySelector('#setup-form .problem').textContent.length > 10 && !document.querySelector('#setup-form .problem').textContent.includes('same'));
  const { json } = await terminal('/api/setup/code');
  await fill(json.code, PASSWORD, PASSWORD);
  await tap.waits(page, 'the right one makes the owner', () => document.getElementById('me')?.textContent === 'You are ada, owner.');
  tap.ok(await page.isHidden('#setup-form'), 'and the form is gone');
}

async function approves(page) {
  await page.evaluate(() => (location.hash = '#talk'));
  const call = terminal('/api/tools/call', { tool: 'shell.execute_command', args: { command: 'echo by the owner', host: true } });
  await tap.waits(page, 'a logged-in owner sees a request', () => document.querySelector('.approval .allow:enabled'));
  await page.evaluate(() => document.activeElement.blur());
  await page.waitForTimeout(700);
  await page.keyboard.press('y');
  const done = await call;
  tap.ok(done.status === 200 && done.json.text.includes('by the owner'), 'and allows it with the key y', JSON.stringify(done));
  const { json } = await terminal('/api/audit?n=10');
  tap.ok(json.entries.some((entry) => entry.kind === 'approval' && entry.verdict === 'approved by ada'), 'the log says who', JSON.stringify(json.entries.map((entry) => entry.verdict)));
}

async function people(page) {
  await page.click('#go-access');
  await page.waitForSelector('#people-list .entry');
  await page.fill('#person-form [name=name]', 'grace');
  await page.selectOption('#person-form [name=role]', 'viewer');
  await page.fill('#person-form [name=password]', PASSWORD);
  await page.click('#person-form [type=submit]');
  await tap.waits(page, 'a person can be added', () => /grace/.test(document.getElementById('people-list').textContent) && /viewer/.test(document.getElementById('people-list').textContent));
  await page.fill('#key-form [name=name]', 'lamp');
  await page.click('#key-form [type=submit]');
  await tap.waits(page, 'a key is shown once', () => document.getElementById('new-key-text').textContent.startsWith('choir_'));
  const key = await page.textContent('#new-key-text');
  const works = await fetch(`${url}/api/status`, { headers: { Authorization: `Bearer ${key}` } });
  tap.is(works.status, 200, 'and works');
  await page.screenshot({ path: join(OUT, 'owner-access.png') });
  await barriers(page, 'people and keys');
  await page.click('[aria-label="Revoke lamp"]');
  await page.click('#ask-ok');
  await tap.waits(page, 'it can be revoked', () => !/lamp/.test(document.getElementById('tokens-list').textContent));
  const dead = await fetch(`${url}/api/status`, { headers: { Authorization: `Bearer ${key}` } });
  tap.is(dead.status, 401, 'and is dead then');
}

/** Somebody ends the session while the page is open. */
async function sessionEnds(page) {
  await terminal('/api/people/password', { name: 'ada', password: `${PASSWORD} 2` });
  await tap.waits(page, 'a session that ended asks for a log-in by itself', () => document.getElementById('login-dialog').open, null, 60000);
  await page.screenshot({ path: join(OUT, 'owner-login.png') });
  await barriers(page, 'log-in');
  await page.fill('#login-form [name=name]', 'ada');
  await page.fill('#login-form [name=password]', PASSWORD);
  await page.keyboard.press('Enter');
  await tap.waits(page, 'the old password is refused in words', () => document.querySelector('#login-form .problem').textContent.length > 10);
  await page.waitForTimeout(2500);
  await page.fill('#login-form [name=password]', `${PASSWORD} 2`);
  await page.keyboard.press('Enter');
  await tap.waits(page, 'the new one leads back', () => document.getElementById('me')?.textContent === 'You are ada, owner.' && !document.getElementById('login-dialog').open);
}

async function memory(page) {
  if (await page.isHidden('#go-memory')) {
    tap.skip('memory', 'this daemon keeps none');
    return;
  }
  await page.click('#go-memory');
  const add = async (text) => {
    await page.fill('#memory-input', text);
    await page.keyboard.press('Enter');
    await tap.waits(page, `“${text}” is kept`, (fact) => [...document.querySelectorAll('.fact-text')].some((one) => one.textContent === fact), text);
  };
  await page.focus('#memory-input');
  await add('My server is called atlas.');
  await add('I take my tea <b>without</b> sugar.');
  tap.is(await page.locator('.fact-text b').count(), 0, 'markup in a fact is text');
  await page.fill('#memory-search', 'tea');
  await tap.waits(page, 'the search finds it', () => /tea/.test(document.querySelector('.fact-text')?.textContent ?? '') && /found/.test(document.getElementById('memory-count').textContent));
  await page.fill('#memory-search', '');
  await tap.waits(page, 'and lets go', () => document.querySelectorAll('.fact-text').length === 2);
  await page.screenshot({ path: join(OUT, 'owner-memory.png') });
  await barriers(page, 'memory');
  await page.fill('#save-name-input', 'before');
  await page.click('#save-state-btn');
  await tap.waits(page, 'a state can be saved', () => /before/.test(document.getElementById('toasts').textContent));
  await page.click('[aria-label^="Change: My server"]');
  await page.fill('#ask-input', 'My server is called titan.');
  await page.click('#ask-ok');
  await tap.waits(page, 'a fact can be changed', () => [...document.querySelectorAll('.fact-text')].some((one) => one.textContent.includes('titan')));
  await page.click('[aria-label^="Forget: I take"]');
  await page.click('#ask-cancel');
  tap.is(await page.locator('[aria-label^="Forget: I take"]').count(), 1, 'a cancelled forgetting keeps it');
  await page.click('[aria-label^="Forget: I take"]');
  await page.click('#ask-ok');
  await tap.waits(page, 'a fact can be forgotten', () => !document.querySelector('[aria-label^="Forget: I take"]'));
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#memory-export')]);
  let exported = '';
  for await (const piece of createReadStream(await download.path())) exported += piece;
  tap.ok(exported.includes('titan') && !exported.includes('tea'), 'what is left can be exported', exported);
  await page.fill('#save-name-input', '../etc');
  await page.click('#save-state-btn');
  await tap.waits(page, 'a name that is none is refused in words', () => /save_name/.test(document.querySelector('#toasts .error')?.textContent ?? ''));
  await page.fill('#save-name-input', 'before');
  await page.click('#load-state-btn');
  await page.click('#ask-ok');
  await tap.waits(page, 'the saved state comes back', () => ['atlas', 'tea'].every((word) => [...document.querySelectorAll('.fact-text')].some((one) => one.textContent.includes(word))) && !document.querySelector('#memory-list').textContent.includes('titan'));
}

async function tampered(page) {
  const path = join(STATE, 'audit.jsonl');
  const lines = readFileSync(path, 'utf8').split('\n');
  lines[1] = lines[1].replace(/"time":"\d/, '"time":"3');
  writeFileSync(path, lines.join('\n'));
  await page.evaluate(() => (location.hash = '#audit'));
  await tap.waits(page, 'a log that somebody changed is shown as broken', () => /broken: .*line 3/.test(document.getElementById('audit-chain').textContent));
  await page.screenshot({ path: join(OUT, 'owner-audit.png') });
  await barriers(page, 'a broken chain');
}

async function viewer(page) {
  await page.evaluate(() => (location.hash = '#access'));
  await page.waitForFunction(view, 'access');
  await page.click('#logout');
  await page.waitForURL(/\/login/);
  tap.ok(true, 'logging out leads to the log-in page');
  await page.fill('[name=name]', 'grace');
  await page.fill('[name=password]', PASSWORD);
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.getElementById('me'));
  await page.evaluate(() => (location.hash = '#access'));
  await tap.waits(page, 'a viewer is one', () => document.getElementById('me').textContent === 'You are grace, viewer.');
  tap.ok(await page.isHidden('#keepers'), 'and sees no keys of others');
  const call = terminal('/api/tools/call', { tool: 'shell.execute_command', args: { command: 'echo no', host: true } });
  await tap.waits(page, 'a viewer sees what waits', () => document.querySelectorAll('.approval').length === 1);
  tap.is(await page.locator('.approval button:enabled').count(), 0, 'and may not answer it');
  const { json } = await terminal('/api/approvals');
  await terminal('/api/approvals/answer', { id: json.approvals[0].id, digest: json.approvals[0].digest, approve: false });
  await call;
  tap.note(await page.evaluate(me));
}

if (!existsSync(CHOIR)) {
  tap.skip('owner, people, memory', 'CHOIR_BUILD names no build');
} else {
  const daemon = await start();
  const { page, problems, close } = await openBrowser();
  await tap.step('set-up', () => setUp(page));
  tap.is(problems.filter((line) => !line.includes('/api/setup')).join('\n'), '', 'nothing else on the console');
  problems.length = 0;
  await tap.step('approves', () => approves(page));
  await tap.step('people', () => people(page));
  await tap.step('memory', () => memory(page));
  tap.is(problems.filter((line) => !line.includes('/api/state/save')).join('\n'), '', 'the console stayed empty');
  await tap.step('session ends', () => sessionEnds(page));
  await tap.step('tampered', () => tampered(page));
  await tap.step('viewer', () => viewer(page));
  await close();
  daemon.kill('SIGTERM');
  await new Promise((resolve) => daemon.on('exit', resolve));
  rmSync(folder, { recursive: true, force: true });
}
tap.end();
