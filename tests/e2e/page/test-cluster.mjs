// The view Cluster of a Choir of its own, before a Consul and a Nomad that answer what the real ones do (their replies, cut
// to what is read), and then are gone. The real ones are in tests/integration/test_experts.py and tests/cluster.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { openBrowser, OUT, Tap } from './browser.mjs';

const tap = new Tap();
const CHOIR = join(process.env.CHOIR_BUILD ?? 'build', 'choir');
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'choir-cluster-'));
const EVIL = '<img src=x onerror="document.title=1">';

const nomad = {
  '/v1/nodes': [
    { ID: 'aaaaaaaa-0000-0000-0000-000000000001', Name: 'worker1', Address: '10.88.0.11', Status: 'ready', SchedulingEligibility: 'eligible' },
    { ID: 'aaaaaaaa-0000-0000-0000-000000000002', Name: 'worker2', Address: '10.88.0.12', Status: 'down', SchedulingEligibility: 'ineligible' },
  ],
  '/v1/node/aaaaaaaa-0000-0000-0000-000000000001': { Meta: { choir_cpu: 'core2', choir_gbps: '5.1', choir_gmacs: '9.25', choir_ram_mb: '7952' } },
  '/v1/node/aaaaaaaa-0000-0000-0000-000000000002': { Meta: null },
  '/v1/agent/members': { Members: [{ Name: 'devbox.global', Addr: '10.88.0.10', Status: 'alive' }] },
  '/v1/jobs': [
    { ID: 'llama-expert', Namespace: 'default', Type: 'service', Status: 'running', Stop: false, JobSummary: { Summary: { llama: { Running: 2, Failed: 1 } } } },
    { ID: EVIL, Namespace: 'default', Type: 'service', Status: 'pending', Stop: false, JobSummary: { Summary: { a: { Queued: 1 } } } },
  ],
  '/v1/allocations': [{ ID: 'bbbbbbbb-0000-0000-0000-000000000001', JobID: 'llama-expert', Namespace: 'default', TaskGroup: 'llama', NodeName: 'worker1', ClientStatus: 'running', DesiredStatus: 'run', ModifyTime: 1e18, TaskStates: { server: { State: 'running', Failed: false, Restarts: 3 } } }],
};
const consul = {
  '/v1/catalog/services': { consul: [], 'llama-api-coding': ['fallback'] },
  '/v1/health/service/llama-api-coding': [{ Node: { Node: 'worker1', Address: '10.88.0.11' }, Service: { ID: 'c1', Address: '127.0.0.1', Port: 9, Tags: ['fallback', 'model=tiny.gguf'] }, Checks: [{ Status: 'passing' }] }],
  '/v1/catalog/nodes': [{ Node: 'worker1', Address: '10.88.0.11' }, { Node: 'worker2', Address: '10.88.0.12' }, { Node: 'devbox', Address: '10.88.0.10' }],
  '/v1/health/state/critical': [{ Node: 'worker2', CheckID: 'serfHealth' }],
};
const logs = { stdout: `listening\n${EVIL}\n`, stderr: '' };

/** @param {Record<string, unknown>} answers */
function serve(answers) {
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://x');
    if (url.pathname.startsWith('/v1/client/fs/logs/bbbbbbbb')) {
      if (url.searchParams.get('type') === 'stderr') response.writeHead(403).end('Permission denied');
      else response.end(logs.stdout);
    } else if (url.searchParams.has('index')) {
      setTimeout(() => response.writableEnded || (response.setHeader('X-Consul-Index', '7'), response.end(JSON.stringify(answers[url.pathname] ?? []))), 60000).unref();
    } else {
      response.setHeader('X-Consul-Index', '7');
      response.end(JSON.stringify(answers[url.pathname] ?? []));
    }
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

async function barriers(page, what) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(AXE);
  const found = await page.evaluate(async () => (await window.axe.run()).violations.filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(' ')).join(', ')}`));
  tap.is(found.join('\n'), '', `axe finds nothing serious: ${what}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  tap.is(wide, 0, `nothing sticks out: ${what}`);
}

const text = (id) => document.getElementById(id).textContent;

const servers = { consul: await serve(consul), nomad: await serve(nomad) };
const args = ['serve', '--port', '0', '--state', join(folder, 'state'), `--set=cluster.consul_url=http://127.0.0.1:${servers.consul.address().port}`, `--set=cluster.nomad_url=http://127.0.0.1:${servers.nomad.address().port}`];
const child = spawn(CHOIR, args, { stdio: ['ignore', 'pipe', 'ignore'] });
let url = '';
for await (const line of createInterface({ input: child.stdout })) {
  const found = /http:\/\/127\S+/.exec(line);
  if (!found) continue;
  url = found[0].replace(/\/$/, '');
  break;
}
child.stdout.resume();
const { page, problems, close } = await openBrowser();
try {
  await page.goto(`${url}/#cluster`, { timeout: 120000 });
  await tap.waits(page, 'the nodes of Consul and Nomad are one list', () => document.querySelectorAll('#cluster-nodes tbody tr').length === 3);
  await tap.waits(page, 'an expert of Consul is shown, with its server', () => /coding/.test(document.getElementById('cluster-experts').textContent) && /tiny\.gguf/.test(document.getElementById('cluster-experts').textContent));
  const nodes = await page.evaluate(text, 'cluster-nodes');
  tap.ok(/controller/.test(nodes) && /core2/.test(nodes) && /7\.8 GB/.test(nodes) && /5\.1 GB\/s/.test(nodes), 'roles and what each machine can do', nodes);
  tap.ok(/gone/.test(nodes), 'a dead node is named so', nodes);
  tap.ok(/small fallback model/.test(await page.evaluate(text, 'cluster-experts')), 'a fallback is told');
  tap.ok(/2 of 3 nodes alive/.test(await page.evaluate(text, 'cluster-count')), 'how many are alive');
  const jobs = await page.evaluate(text, 'cluster-jobs');
  tap.ok(jobs.includes('llama-expert') && jobs.includes(EVIL), 'jobs are shown, whatever they are called', jobs);
  const links = await page.$$eval('#cluster-links a', (all) => all.map((one) => one.href));
  tap.is(links.join(' '), `http://127.0.0.1:${servers.consul.address().port}/ui/ http://127.0.0.1:${servers.nomad.address().port}/ui/`, 'links to their own pages');
  await page.screenshot({ path: join(OUT, 'cluster.png'), fullPage: true });
  await barriers(page, 'the cluster');
  await page.click('#cluster-allocations button[aria-label^="stdout of server"]');
  await tap.waits(page, 'a log is shown', (evil) => document.getElementById('cluster-log-text').textContent.includes(evil), EVIL);
  await page.click('#cluster-allocations button[aria-label^="stderr of server"]');
  await tap.waits(page, 'or why not, and what to do', () => /nomad_token_file/.test(document.getElementById('cluster-log-text').textContent));
  tap.is(await page.title(), 'Mission Control', 'nothing of it was taken for markup');
  await barriers(page, 'a log');
  const bad = await fetch(`${url}/api/cluster/logs?alloc=..%2f..&task=x`);
  tap.is(bad.status, 400, 'an allocation that is none is refused');
  servers.nomad.closeAllConnections();
  servers.nomad.close();
  await page.click('#cluster-refresh');
  await tap.waits(page, 'without Nomad its jobs stay, with their age and the reason', () => /Nomad does not answer.*What is shown is \d+ s old/.test(document.getElementById('cluster-jobs').textContent) && document.getElementById('cluster-jobs').textContent.includes('llama-expert'), undefined, 30000);
  tap.ok(!/does not answer/.test(await page.evaluate(text, 'cluster-experts')), 'and nothing else is lost');
  servers.consul.closeAllConnections();
  servers.consul.close();
  await tap.waits(page, 'without Consul the last known experts stay', () => /Consul does not answer/.test(document.getElementById('cluster-experts').textContent) && /coding/.test(document.getElementById('cluster-experts').textContent), undefined, 60000);
  await page.setViewportSize({ width: 390, height: 800 });
  await barriers(page, 'on a telephone, all gone');
  const wrong = problems.filter((one) => !/403|502|400/.test(one));
  tap.is(wrong.join('\n'), '', 'no error, warning or blocked script');
} finally {
  await close();
  child.kill('SIGTERM');
  await new Promise((resolve) => child.once('exit', resolve));
  rmSync(folder, { recursive: true, force: true });
  for (const server of Object.values(servers)) server.close();
}
tap.end();
