// A machine asks the real join service to be let in; an approver sees it on the page, with its fingerprint, and says yes.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { openBrowser, OUT, Tap } from './browser.mjs';

const tap = new Tap();
const CHOIR = join(process.env.CHOIR_BUILD ?? 'build', 'choir');
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PASSWORD = 'correct horse battery';
const folder = mkdtempSync(join(tmpdir(), 'choir-joins-'));
const STATE = join(folder, 'state');
const JOIN = join(folder, 'join');
const KEY = join(folder, 'state.key');
writeFileSync(KEY, `${'k'.repeat(40)}\n`, { mode: 0o600 });

const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
    server.close(() => resolve(port));
  });
});

/** @param {string[]} args @param {RegExp} ready */
async function begin(args, ready) {
  const child = spawn(CHOIR, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  for await (const line of createInterface({ input: child.stdout })) if (ready.test(line)) { child.line = line; break; }
  child.stdout.resume();
  return child;
}

/** @param {number} port @param {object} body */
function ask(port, body) {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path: '/api/join', method: 'POST', rejectUnauthorized: false, headers: { 'Content-Type': 'application/json' } }, (answer) => answer.resume().on('end', () => resolve(answer.statusCode)));
    sent.on('error', reject);
    sent.end(JSON.stringify(body));
  });
}

const run = (/** @type {string[]} */ args, input = '') => spawnSync(CHOIR, args, { input, encoding: 'utf8' }).stdout.trim();

const [port, housePort] = await Promise.all([freePort(), freePort()]);
const service = await begin(['nodes', 'serve', '--state', JOIN, '--ready', join(folder, 'ready'), '--port', `${port}`, '--house-key', KEY, '--house-port', `${housePort}`], /https:/);
const daemon = await begin(['serve', '--port', '0', '--state', STATE, `--set=cluster.controllers=http://127.0.0.1:${housePort}`, `--set=standby.key_file=${KEY}`, '--set=llm.base_url=http://127.0.0.1:9', '--set=stt.service=pocketsphinx', '--set=tts.service=flite', '--set=wyoming.stt_port=0', '--set=wyoming.tts_port=0'], /http:\/\/127/);
const url = /http:\/\/127\S+/.exec(daemon.line)[0].replace(/\/$/, '');
const { page, problems, close } = await openBrowser();
page.setDefaultTimeout(120000); // the machine may be busy
try {
  run(['owner', '--state', STATE, 'add', 'ada', '--role', 'owner'], `${PASSWORD}\n`);
  const asked = { hostname: 'atlas', machine_id: '1'.repeat(32), key: 'ab'.repeat(32), address: '10.0.0.12', cpu: 'core2', ram_mb: 8000, ssh_host_key: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVb0Z5hxmTGrkpH0zOIDrJzOtJq1xV0uZqYx2Ffd6aE' };
  let answered = 0;
  for (let tries = 0; tries < 100 && answered !== 202; tries++) {
    answered = Number(await ask(port, { ...asked, token: run(['nodes', 'token', '--state', JOIN]) }).catch(() => 0));
    if (answered !== 202) await new Promise((resolve) => setTimeout(resolve, 100)); // its TLS is still starting
  }
  tap.is(answered, 202, 'the machine asked');
  await page.goto(`${url}/login`);
  await page.fill('[name=name]', 'ada');
  await page.fill('[name=password]', PASSWORD);
  await page.click('[type=submit]');
  await page.waitForURL((at) => at.pathname === '/');
  await page.waitForLoadState();
  await page.goto(`${url}/#cluster`);
  await tap.waits(page, 'who waits is shown', () => /atlas/.test(document.getElementById('cluster-joins').textContent) && /pending/.test(document.getElementById('cluster-joins').textContent));
  const text = await page.evaluate(() => document.getElementById('cluster-joins').textContent);
  tap.ok(/10\.0\.0\.12 · core2 · 7\.8 GB/.test(text) && /SHA256:[A-Za-z0-9+/]{43}/.test(text), 'with what it is, and its fingerprint', text);
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => (await window.axe.run()).violations.filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(' ')).join(', ')}`));
  tap.is(found.join('\n'), '', 'axe finds nothing serious');
  await page.screenshot({ path: join(OUT, 'joins.png'), fullPage: true });
  await page.click('#cluster-joins button[aria-label="Approve atlas"]');
  await page.click('#ask-cancel');
  tap.is(existsSync(join(JOIN, 'approved')) ? readdirSync(join(JOIN, 'approved')).length : 0, 0, 'a question that is cancelled changes nothing');
  await page.click('#cluster-joins button[aria-label="Approve atlas"]');
  await page.click('#ask-ok');
  await tap.waits(page, 'it is approved', () => /approved/.test(document.getElementById('cluster-joins').textContent) && !document.querySelector('#cluster-joins button'));
  tap.is(readdirSync(join(JOIN, 'approved')).length, 1, 'and the controller has the order');
  tap.is(await page.title(), 'Mission Control', 'nothing was taken for markup');
  tap.is(problems.filter((one) => !/401/.test(one)).join('\n'), '', 'no error, warning or blocked script');
} finally {
  await close();
  for (const child of [daemon, service]) {
    child.kill('SIGTERM');
    await new Promise((resolve) => (child.exitCode === null ? child.once('exit', resolve) : resolve(null)));
  }
  rmSync(folder, { recursive: true, force: true });
}
tap.end();
