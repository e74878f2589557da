// The cluster: nodes, jobs, experts, allocations and their logs. A part that cannot be had is shown as it was known last,
// with its age and why; losing Consul or Nomad loses only what needs it.
import { api } from './api.js';
import { byId, h } from './dom.js';
import { Joins } from './joins.js';
import { output, visible } from './plain.js';

/** @typedef {{list: any[], age_s: number|null, problem: string|null}} Part */
/** @typedef {{consul: {url: string|null, problem: string|null}, nomad: {url: string|null, problem: string|null}, main?: {model: string, service: string, remote?: string|null}, nodes: Part, jobs: Part, allocations: Part, experts: {list: any[], problems: string[], age_s: number|null}}} Cluster */

const REFRESH_MS = 5000;

export class ClusterView {
  constructor() {
    /** @type {Cluster|null} */
    this.now = null;
    this.joins = new Joins();
    this.timer = 0;
    byId('cluster-refresh').addEventListener('click', () => void this.refresh());
    byId('cluster-log-close').addEventListener('click', () => {
      byId('cluster-log').hidden = true;
      byId('cluster-title').focus();
    });
  }

  async show() {
    clearInterval(this.timer);
    this.timer = window.setInterval(() => document.visibilityState === 'visible' && void this.refresh(), REFRESH_MS);
    await this.refresh();
  }

  hide() {
    clearInterval(this.timer);
  }

  async refresh() {
    void this.joins.refresh();
    try {
      this.now = /** @type {Cluster} */ (await api('/api/cluster'));
      this.draw(this.now);
    } catch (error) {
      byId('cluster-state').textContent = /** @type {Error} */ (error).message;
    }
  }

  /** @param {Cluster} now */
  draw(now) {
    const alive = now.nodes.list.filter((node) => node.alive).length;
    byId('cluster-count').textContent = now.nodes.list.length ? `${alive} of ${now.nodes.list.length} nodes alive` : '';
    this.drawLinks(now);
    const served = now.main?.service ? `The main language model is the service ${now.main.service}${now.main.remote ? `, now at ${now.main.remote}` : '; it is not there now, so this machine’s own model serves'}.` : '';
    byId('cluster-state').textContent = visible(served);
    this.section('cluster-nodes', now.nodes, nodesTable);
    this.section('cluster-jobs', now.jobs, jobsTable);
    this.section('cluster-allocations', now.allocations, (list) => allocationsTable(list, (alloc, task, type) => void this.log(alloc, task, type)));
    const { list, problems, age_s } = now.experts;
    this.section('cluster-experts', { list, age_s, problem: problems.join(' ') || null }, expertsList);
  }

  /** @param {Cluster} now */
  drawLinks(now) {
    const links = [
      ['Consul', now.consul.url],
      ['Nomad', now.nomad.url],
    ].filter(([, url]) => url);
    byId('cluster-links').replaceChildren(
      ...links.map(([name, url]) => h('a', { class: 'small', href: reachable(String(url)), target: '_blank', rel: 'noreferrer' }, `${name}’s own page`)),
    );
  }

  /**
   * Drawn anew only when it says something else: what a person has opened or marked stays.
   * @param {string} id @param {Part} part @param {(list: any[]) => HTMLElement} draw
   */
  section(id, part, draw) {
    const box = byId(id);
    const note = box.querySelector('.age');
    if (note) note.textContent = part.problem ? `${part.problem}${part.list.length && part.age_s !== null ? ` What is shown is ${span(part.age_s)} old.` : ''}` : '';
    note?.classList.toggle('why', Boolean(part.problem));
    const key = JSON.stringify(part.list);
    const body = /** @type {HTMLElement} */ (box.querySelector('.body'));
    if (body.dataset.key === key) return;
    body.dataset.key = key;
    body.replaceChildren(part.list.length ? draw(part.list) : h('p', { class: 'dim' }, part.problem ? 'Nothing is known.' : 'None.'));
  }

  /** @param {string} alloc @param {string} task @param {string} type */
  async log(alloc, task, type) {
    const box = byId('cluster-log');
    const text = byId('cluster-log-text');
    box.hidden = false;
    byId('cluster-log-title').textContent = `${type} of ${task} (${alloc.slice(0, 8)})`;
    text.textContent = '…';
    try {
      const answer = await api(`/api/cluster/logs?alloc=${encodeURIComponent(alloc)}&task=${encodeURIComponent(task)}&type=${type}`);
      text.textContent = answer.text ? (answer.cut ? '… what is older is not shown\n' : '') + output(answer.text) : 'Nothing was written.';
    } catch (error) {
      text.textContent = /** @type {Error} */ (error).message;
    }
    text.scrollTop = text.scrollHeight;
    text.focus();
  }
}

/** An address of this machine itself is, from another one, that of the page. @param {string} url */
function reachable(url) {
  const at = new URL(url);
  if (!['http:', 'https:'].includes(at.protocol)) return '#cluster';
  if (['127.0.0.1', 'localhost', '[::1]'].includes(at.hostname)) at.hostname = location.hostname;
  return `${at.href.replace(/\/$/, '')}/ui/`;
}

/** @param {number} seconds */
function span(seconds) {
  return seconds < 120 ? `${Math.round(seconds)} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** @param {string} label @param {string[]} heads @param {(HTMLElement|string|null)[][]} rows */
function table(label, heads, rows) {
  const cell = (/** @type {HTMLElement|string|null} */ value, /** @type {number} */ at) => (at === 0 ? h('th', { scope: 'row' }, value ?? '') : h('td', {}, value ?? ''));
  return h(
    'div',
    { class: 'table', tabindex: '0', role: 'region', 'aria-label': label },
    h('table', {}, h('thead', {}, h('tr', {}, ...heads.map((head) => h('th', { scope: 'col' }, head)))), h('tbody', {}, ...rows.map((row) => h('tr', {}, ...row.map(cell))))),
  );
}

/** @param {boolean} good @param {string} word */
function light(good, word) {
  return h('span', { class: 'lamp' }, h('i', { class: 'dot', 'data-light': good ? 'ok' : 'bad' }), word);
}

/** @param {unknown} value @param {string} unit */
function number(value, unit) {
  return typeof value === 'number' ? `${value < 10 ? Math.round(value * 10) / 10 : Math.round(value)} ${unit}` : '';
}

/** @param {any[]} list */
function nodesTable(list) {
  return table(
    'Nodes',
    ['Node', 'State', 'Role', 'Address', 'Processor', 'Memory', 'Bandwidth', 'Arithmetic'],
    list.map((node) => [
      visible(node.name),
      light(Boolean(node.alive), node.alive ? (node.eligible === false ? 'alive, takes no work' : 'alive') : 'gone'),
      node.server ? 'controller' : node.nomad ? 'worker' : '',
      visible(node.address ?? ''),
      visible(String(node.cpu ?? '')),
      number(typeof node.ram_mb === 'number' ? node.ram_mb / 1024 : null, 'GB'),
      number(node.gbps, 'GB/s'),
      number(node.gmacs, 'GMAC/s'),
    ]),
  );
}

/** @param {any[]} list */
function jobsTable(list) {
  return table(
    'Jobs',
    ['Job', 'State', 'Kind', 'Running', 'Waiting', 'Failed', 'Namespace'],
    list.map((job) => [
      visible(job.id),
      // A finished batch job and one that was stopped on purpose are dead and well.
      light(job.status === 'running' || job.stopped || job.type === 'batch' || job.type === 'sysbatch', job.stopped ? 'stopped' : visible(job.status)),
      visible(job.type),
      String(job.running),
      String(job.queued + job.starting),
      String(job.failed + job.lost),
      visible(job.namespace),
    ]),
  );
}

/** @param {any[]} list @param {(alloc: string, task: string, type: string) => void} log */
function allocationsTable(list, log) {
  const button = (/** @type {any} */ alloc, /** @type {any} */ task, /** @type {string} */ type) =>
    h('button', { type: 'button', class: 'small', 'aria-label': `${type} of ${task.name}, ${alloc.job}, on ${alloc.node}`, onclick: () => log(alloc.id, task.name, type) }, type);
  return table(
    'Allocations',
    ['Job', 'Node', 'State', 'Task', 'Restarts', 'Log'],
    list.flatMap((alloc) =>
      (alloc.tasks.length ? alloc.tasks : [{ name: '', state: '', restarts: 0 }]).map((/** @type {any} */ task) => [
        visible(alloc.job),
        visible(alloc.node),
        light(alloc.status === 'running' || alloc.status === 'complete', visible(alloc.status)),
        visible(task.name),
        String(task.restarts),
        task.name ? h('span', { class: 'pair' }, button(alloc, task, 'stdout'), button(alloc, task, 'stderr')) : null,
      ]),
    ),
  );
}

/** @param {any[]} list */
function expertsList(list) {
  return h('ul', { class: 'entries' }, ...list.map(expertItem));
}

/** @param {any} expert */
function expertItem(expert) {
  const source = { consul: 'of Consul', list: 'of the settings', outside: 'outside of this house' }[/** @type {'consul'} */ (expert.source)] ?? '';
  const told = expert.answered || expert.failed ? `${expert.answered} answered, ${expert.failed} failed${expert.average_s ? `, ${number(expert.average_s, 's')} on average` : ''}` : 'not asked yet';
  return h(
    'li',
    { class: `entry ${expert.replicas.length ? '' : 'absent'}`, 'data-id': expert.name },
    h('div', { class: 'entry-head' }, h('i', { class: 'dot', 'data-light': expert.health === 'unhealthy' ? 'bad' : 'ok' }), h('h3', {}, visible(expert.name)), h('span', { class: 'dim' }, source), h('span', { class: 'chip' }, visible(expert.health))),
    h('p', { class: 'dim' }, told),
    expert.same_as_main ? h('p', { class: 'why' }, 'It runs the very model that Choir talks with: only the persona is another, so do not expect better answers.') : null,
    expert.replicas.length ? h('ul', { class: 'replicas' }, ...expert.replicas.map(replicaItem)) : h('p', { class: 'why' }, 'None of its servers is healthy.'),
  );
}

/** @param {any} replica */
function replicaItem(replica) {
  const parts = [replica.model, replica.node && `on ${replica.node}`, replica.slots ? `${replica.busy} of ${replica.slots} slots busy` : '', replica.first_text_s ? `first word after ${number(replica.first_text_s, 's')}` : ''];
  return h(
    'li',
    {},
    h('code', {}, visible(replica.url)),
    ' ',
    visible(parts.filter(Boolean).join(', ')),
    replica.fallback ? h('span', { class: 'chip change' }, 'small fallback model') : null,
    replica.resting ? h('span', { class: 'chip denied' }, 'broke off, rests') : null,
  );
}
