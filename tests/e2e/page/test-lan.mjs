// Another machine of the LAN, as a phone: a browser in a network namespace of its own opens http://NODE:PORT, trusts the
// certificate authority as /trust tells it, is led to the TLS twin, sets the owner up, types and speaks. Starts a daemon
// with --lan of its own; needs root, ip, nginx, openssl and, for the trust, certutil (libnss3-tools).
//   CHOIR_BUILD=build CHOIR_DATA=FOLDER node test-lan.mjs
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync, chmodSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBrowser, OUT, Tap } from './browser.mjs';
import { padded, readWav, writeWav } from './wav.mjs';

const ANSWER_MS = Number(process.env.CHOIR_ANSWER_MS ?? 120000);
const choir = join(process.env.CHOIR_BUILD ?? 'build', 'choir');
const netns = `choir-lan-${process.pid}`;
const [near, far] = ['10.213.77.1', '10.213.77.2'];
const run = (...argv) => execFileSync(argv[0], argv.slice(1), { encoding: 'utf8' });

function skip(why) {
  console.log(`1..0 # SKIP ${why}`);
  process.exit(0);
}

/** @returns {Promise<number>} */
const freePort = () => new Promise((done) => {
  const server = createServer().listen(0, () => {
    const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
    server.close(() => done(port));
  });
});

function makeNetwork() {
  run('ip', 'netns', 'add', netns);
  run('ip', 'link', 'add', `cl${process.pid % 9999}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns);
  run('ip', 'addr', 'add', `${near}/24`, 'dev', `cl${process.pid % 9999}`);
  run('ip', 'link', 'set', `cl${process.pid % 9999}`, 'up');
  run('ip', 'netns', 'exec', netns, 'ip', 'addr', 'add', `${far}/24`, 'dev', 'eth0');
  run('ip', 'netns', 'exec', netns, 'ip', 'link', 'set', 'eth0', 'up');
  run('ip', 'netns', 'exec', netns, 'ip', 'link', 'set', 'lo', 'up');
}

if (process.getuid?.() !== 0) skip('a second network namespace needs root');
const certutil = existsSync('/usr/bin/certutil');
if (!['/usr/sbin/nginx', '/usr/bin/nginx'].some(existsSync)) skip('nginx is not installed (nginx-light)');
const folder = mkdtempSync(join(tmpdir(), 'choir-lan-'));
try {
  makeNetwork();
} catch (error) {
  skip(`no network namespace here: ${String(error).split('\n')[0]}`);
}
const [port, tlsPort] = [await freePort(), await freePort()];
const state = join(folder, 'state');
const tap = new Tap();
const daemon = spawn(choir, ['serve', '--lan', '--port', String(port), '--state', state, '--set', `web.tls_port=${tlsPort}`, '--set', 'wyoming.stt_port=0', '--set', 'wyoming.tts_port=0'], { stdio: ['ignore', 'pipe', 'ignore'] });
let browser;
try {
  await new Promise((done) => daemon.stdout.once('data', done));
  const code = run(choir, 'owner', 'code', '--state', state).trim();
  // The browser runs over there; playwright talks to it through pipes, which know no network.
  const wrapper = join(folder, 'chromium');
  const real = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
  const certificates = `sql:${join(folder, '.pki/nssdb')}`;
  mkdirSync(join(folder, '.pki/nssdb'), { recursive: true });
  writeFileSync(wrapper, `#!/bin/sh\nexport HOME=${folder}\nexec ip netns exec ${netns} ${real} "$@"\n`);
  chmodSync(wrapper, 0o755);
  process.env.CHROMIUM = wrapper;
  mkdirSync(OUT, { recursive: true });
  const speech = join(OUT, 'lan-caller.wav');
  const source = process.env.CHOIR_SPEECH ?? join(process.env.CHOIR_DATA ?? '', 'jfk.wav');
  const { rate, pcm } = readWav(source);
  writeWav(speech, rate, padded(pcm, rate, 1, 60));
  if (certutil) run('certutil', '-d', certificates, '-N', '--empty-password');
  const open = async () => {
    const args = ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', `--use-file-for-fake-audio-capture=${speech}`];
    browser = await openBrowser({ args: certutil ? args : [...args, '--ignore-certificate-errors'], width: 390, height: 844, touch: true });
    return browser.page;
  };
  let page = await open();
  await page.goto(`http://${near}:${port}/trust`);
  tap.is(page.url(), `http://${near}:${port}/trust`, 'how to trust the certificate is told before it is trusted');
  await page.screenshot({ path: join(OUT, 'lan-trust.png'), fullPage: true });
  if (certutil) {
    const refused = await page.goto(`http://${near}:${port}/`).catch((error) => String(error));
    await page.waitForURL('chrome-error://chromewebdata/'); // the browser's own page, which would interrupt what comes next
    tap.ok(String(refused).includes('ERR_CERT_AUTHORITY_INVALID'), 'until then the browser warns', String(refused));
    await page.goto(`http://${near}:${port}/trust`);
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('a.button')]);
    await download.saveAs(join(folder, 'choir-ca.crt'));
    await browser.close();
    run('certutil', '-d', certificates, '-A', '-t', 'C,,', '-n', 'choir', '-i', join(folder, 'choir-ca.crt'));
    page = await open();
  } else {
    tap.skip('the certificate is trusted as the page tells', 'certutil is not installed (libnss3-tools)');
  }
  await page.goto(`http://${near}:${port}/`);
  tap.is(page.url(), `https://${near}:${tlsPort}/setup`, 'plain HTTP leads to the twin, and a Choir without owner to its set-up');
  await page.screenshot({ path: join(OUT, 'lan-setup.png') });
  for (const path of ['/', '/app.js', '/api/status', '/api/memory', '/v1/models', '/metrics']) {
    const answer = await page.evaluate(async (where) => ((one) => `${one.status} ${one.type}`)(await fetch(where, { redirect: 'manual' })), path);
    tap.ok(/^401 |opaqueredirect$/.test(answer), `before there is an owner the LAN does not get ${path}`, answer);
  }
  await page.fill('#code', 'AAAA-AAAA');
  await page.fill('#name', 'ada');
  await page.fill('#password', 'correct horse battery');
  await page.click('button');
  await tap.waits(page, 'a wrong code is refused with a sentence', () => document.getElementById('problem').textContent.includes('code is wrong'));
  await page.fill('#code', code);
  await page.click('button');
  await page.waitForURL(`https://${near}:${tlsPort}/`);
  tap.ok(await page.evaluate(() => window.isSecureContext), 'the page is a secure context');
  const [cookie] = await page.context().cookies();
  tap.is([cookie.name, cookie.httpOnly, cookie.secure, cookie.sameSite, cookie.path].join(), '__Host-choir,true,true,Strict,/', 'the cookie is for this host and TLS alone, and no script reads it');
  await page.context().clearCookies();
  await page.goto(`http://${near}:${port}/`);
  tap.is(page.url(), `https://${near}:${tlsPort}/login`, 'without the cookie the log-in comes');
  await page.fill('#name', 'ada');
  await page.fill('#password', 'correct horse battery');
  await page.click('button');
  await page.waitForURL(`https://${near}:${tlsPort}/`);
  await tap.waits(page, 'the model is warm', async () => (await fetch('/health')).status === 200, null, 240000);
  await page.fill('#message-input', 'Say good morning.');
  await page.press('#message-input', 'Enter');
  await tap.waits(page, 'a typed turn is answered', () => document.querySelector('.row.agent .body')?.textContent.trim().length > 1, null, ANSWER_MS);
  await page.click('#mic-button');
  await tap.waits(page, 'the microphone opens', () => window.choir.stats().micOn);
  await tap.waits(page, 'what was said appears as text', () => [...document.querySelectorAll('.row.user .body')].some((row) => /country/i.test(row.textContent)), null, ANSWER_MS);
  await tap.waits(page, 'an answer is spoken', () => window.choir.stats().loud > 2000, null, ANSWER_MS);
} finally {
  await browser?.close();
  daemon.kill('SIGTERM');
  await new Promise((done) => (daemon.exitCode === null ? daemon.once('exit', done) : done(null)));
  run('ip', 'netns', 'del', netns);
  rmSync(folder, { recursive: true, force: true });
  rmSync(`${state}-work`, { recursive: true, force: true });
}
tap.end();
