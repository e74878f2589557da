// Mission Control: wires the parts and decides what is shown. The transcript follows /ws, so that what anybody says by
// any way appears here; voice.js carries what is said or typed on this page.
import { api } from './api.js';
import { Approvals } from './approvals.js';
import { AuditView } from './audit.js';
import { ClusterView } from './cluster.js';
import { findMicrophoneProblem } from './audio.js';
import { Composer } from './composer.js';
import { Conversations } from './conversations.js';
import { byId, prefs, setIcon, toast } from './dom.js';
import { Face } from './face.js';
import { Health } from './health.js';
import { Kept } from './kept.js';
import { MemoryView } from './memory.js';
import { Models } from './models.js';
import { Owner } from './owner.js';
import { Settings } from './settings.js';
import { Socket } from './socket.js';
import { loadingWords, modelReady, StatusPanel } from './status.js';
import { Terminal } from './terminal.js';
import { ToolRows } from './toolrows.js';
import { ToolsView } from './tools.js';
import { Transcript } from './transcript.js';
import { Views } from './views.js';
import { Voice } from './voice.js';

const ERROR_MS = 6000;
const canHover = matchMedia('(hover: hover)').matches;
const root = document.documentElement;
const body = document.body;

const transcript = new Transcript((text) => void send(text));
const terminal = new Terminal((level) => events.send({ type: 'log_filter', level, topic: '*' }));
const models = new Models(() => void panel.refresh());
const conversations = new Conversations({
  opened: () => drawer('none'),
  isEmpty: () => transcript.isEmpty,
});
const composer = new Composer((text) => send(text), () => show());
const panel = new StatusPanel({
  changed: (status) => {
    void models.update(status);
    showSpeech();
    show();
  },
  chooseModel: () => void models.show(),
});
const toolRows = new ToolRows(transcript);
const approvals = new Approvals({ changed: () => show(), busy: () => transcript.busy });
const memory = new MemoryView((there) => views.offer('memory', there));
const owner = new Owner((there) => views.offer('access', there));
const settings = new Settings((changed) => {
  face.setQuiet(changed.still);
  void voice.audio.configure(changed.sound).catch((/** @type {any} */ error) => showMicrophone(error));
});
const voice = new Voice(
  {
    changed: () => show(),
    micLevel: (level) => showLevel(level),
    mouthLevel: (level) => face.mouthOpen(level),
    visemes: (item, list) => face.visemes(item, list),
    note: (text) => {
      note = text;
      show();
    },
    sound: (text) => {
      panel.sound = text;
      void panel.refresh();
    },
    error: (text) => showError(text),
    unheard: () => transcript.unheard(),
    microphone: (problem) => showMicrophone(problem),
  },
  { mode: prefs.get('mode') === 'hold' ? 'hold' : 'handsfree', speak: prefs.get('speak') !== 'no', sound: settings.sound },
);
const face = new Face(() => voice.audio.clock());
face.setQuiet(settings.still);

new Health();
const kept = new Kept((message) => events.send(message));
const views = new Views({ talk: { show: () => transcript.toEnd() }, tools: new ToolsView(approvals), memory, cluster: new ClusterView(), audit: new AuditView(), access: owner }, () => drawer('none'));

let conversation = '';
let errorUntil = 0;
let errorText = '';
let note = '';
/** @type {any[]|null} events that arrive while the conversation is being loaded */
let held = null;
/** @type {Set<string>} turns whose beginning we saw */
const known = new Set();

const events = new Socket('/ws', {
  message: onEvent,
  open: onOpen,
  state: ({ state }) => {
    if (state === 'waiting') panel.stale();
    show();
  },
});

function onOpen() {
  events.send({ type: 'log_filter', level: terminal.level.value, topic: '*' });
  void panel.refresh();
  void conversations.refresh();
  void approvals.refresh();
}

/** @param {any} event */
function onEvent(event) {
  if (event.type === 'hello' || event.type === 'saved') kept.heard(event);
  if (event.type === 'log') {
    terminal.add(event);
  } else if (event.type === 'saved') {
    return;
  } else if (event.type === 'approval_request' || event.type === 'approval_closed') {
    approvals.event(event);
  } else if (event.type === 'hello' || event.type === 'conversation') {
    void loadConversation(String(event.type === 'hello' ? event.conversation : event.data));
  } else if (event.type === 'status') {
    if (event.data === 'idle' && !held) transcript.settle();
    void panel.refresh();
    show();
  } else if (held) held.push(event);
  else apply(event);
}

/** @param {any} event */
function apply(event) {
  const turn = String(event.turn_id ?? '');
  const text = String(event.data ?? event.text ?? '');
  if (event.type === 'user') {
    known.add(turn);
    transcript.user(text, event.source);
    transcript.expect(turn);
    terminal.add({ topic: 'you', level: 'user', data: text, time: Date.now() });
  } else if (event.type === 'agent_delta') {
    transcript.delta(turn, text);
  } else if (event.type === 'tool') {
    toolRows.tool(turn, text);
    void approvals.refresh();
  } else if (event.type === 'tool_output') {
    toolRows.output(turn, text);
  } else if (event.type === 'recall') {
    toolRows.recall(turn, text);
  } else if (event.type === 'remembered') {
    toolRows.remembered(turn, text);
    if (views.now === 'memory') void memory.show();
  } else if (event.type === 'agent') {
    toolRows.done(turn);
    const again = !known.has(turn) && transcript.knows(turn);
    transcript.finish(turn, text, Boolean(event.cut));
    if (text) terminal.add({ topic: 'choir', level: 'agent', data: text, time: Date.now() });
    // The page came in the middle of this turn: what began it is in the history now.
    if (!known.delete(turn) && !again) void loadConversation(conversation);
    void conversations.refresh();
  } else if (event.type === 'error') {
    toolRows.done(turn);
    known.delete(turn);
    transcript.error(turn, text);
    showError(text, true);
  }
  show();
}

/** @param {string} id */
async function loadConversation(id) {
  conversation = id;
  held = [];
  known.clear();
  try {
    const answer = await api(`/api/conversations/${encodeURIComponent(id)}`);
    // Another one was opened meanwhile; its own load goes on.
    if (conversation !== id) return;
    transcript.load(answer.entries ?? []);
  } catch (error) {
    // No such conversation yet: the first turn creates it. Any other failure leaves what is shown.
    if (/** @type {any} */ (error).status !== 404) showError(/** @type {Error} */ (error).message);
    else if (conversation === id) transcript.load([]);
  }
  const waiting = held ?? [];
  held = null;
  for (const event of waiting) {
    const { last } = transcript;
    const same = last.text === event.data && ((event.type === 'user' && last.role === 'user') || (event.type === 'agent' && last.role === 'agent'));
    if (!same) apply(event);
  }
  void conversations.refresh();
  show();
}

/** @param {string} text @returns {Promise<boolean>} */
async function send(text) {
  note = '';
  if (await voice.sendText(text)) return true;
  // No voice session to be had (too many pages, say): the plain way, which cannot be stopped or heard.
  if (events.send({ type: 'user_message', data: text, source: 'page' })) return true;
  toast('Not connected: nothing was sent.', 'error');
  return false;
}

/** @param {string} text @param {boolean} [inTranscript] */
function showError(text, inTranscript = false) {
  errorUntil = Date.now() + ERROR_MS;
  errorText = text;
  if (!inTranscript) toast(text, 'error');
  setTimeout(show, ERROR_MS + 50);
  show();
}

/** @returns {{state: import('./face.js').FaceState, word: string, note: string}} */
function situation() {
  if (!events.isOpen) return { state: 'offline', word: 'Not connected', note: retryText() };
  if (Date.now() < errorUntil) return { state: 'error', word: 'Something went wrong', note: errorText };
  if (voice.paused) return { state: 'paused', word: 'Paused', note: voice.hearing ? 'I hear you.' : 'Did you say something?' };
  if (voice.hearing || voice.held) return { state: 'listening', word: 'Listening', note: voice.held ? 'Let go when you are done.' : voice.interrupted ? 'You interrupted me; go on.' : '' };
  if (voice.audio.playing) return { state: 'speaking', word: 'Speaking', note: voice.micOn && voice.mode === 'handsfree' ? 'Just talk to interrupt.' : canHover ? 'Esc stops it.' : '' };
  const status = panel.status;
  if (approvals.size) return { state: 'thinking', word: 'May I?', note: approvals.mayAnswer ? 'Something waits for your yes or no.' : 'Something waits for a yes or no, but not from this page.' };
  if (transcript.busy || voice.serverState === 'thinking') {
    const loading = status && !modelReady(status);
    const word = loading ? 'Waking up' : transcript.answering ? 'Answering' : 'Thinking';
    return { state: 'thinking', word, note: loading ? loadingText() : note };
  }
  if (voice.micOn && voice.muted) return { state: 'idle', word: 'Muted', note: canHover ? 'Press M or the crossed-out microphone to be heard again.' : 'Press the crossed-out microphone to be heard again.' };
  if (voice.micOn && voice.asleep) return { state: 'asleep', word: 'Asleep', note: 'Say the wake word, or type.' };
  if (voice.micOn && voice.mode === 'handsfree') return { state: 'listening', word: 'Ready', note: voice.interrupted ? 'You interrupted me.' : 'Just talk.' };
  if (status && !modelReady(status)) return { state: 'idle', word: 'Waking up', note: loadingText() };
  return { state: 'idle', word: 'Ready', note: note || readyText() };
}

function readyText() {
  return transcript.isEmpty ? 'Type below, or press the microphone and talk.' : '';
}

function loadingText() {
  const model = panel.status?.model;
  return model ? `${model.name || 'The language model'}: ${loadingWords(model)}` : '';
}

/** @param {NonNullable<import('./types').Status['missing']>} missing */
function missingText(missing) {
  return `No ${missing[0].what}${missing.length > 1 ? ` and ${missing.length - 1} more` : ''}`;
}

function retryText() {
  const { state, retryAt } = events.state;
  if (state !== 'waiting') return 'Connecting…';
  const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
  return `Trying again in ${seconds} s`;
}

let ticking = 0;
function show() {
  const now = situation();
  // First: the face takes its colours from it.
  body.dataset.state = now.state;
  face.set(now.state);
  setText('state-word', now.word);
  setText('state-note', now.note);
  const ready = modelReady(panel.status);
  const missing = panel.status?.missing ?? [];
  const light = !events.isOpen ? 'off' : now.state === 'error' ? 'bad' : ready && !missing.length ? 'ok' : 'busy';
  byId('status-light').dataset.light = light;
  setText('status-display', !events.isOpen ? retryText() : panel.status && !ready ? loadingText() : missing.length ? missingText(missing) : 'Connected');
  byId('status-pill').title = panel.status?.status ?? '';
  const stop = byId('stop-button');
  stop.hidden = !voice.busy;
  // One button in the corner: stop while something runs, send as soon as there is something to send.
  byId('send-button').hidden = voice.busy && !composer.input.value.trim();
  showMicButton();
  // Only the countdown of a reconnect needs the clock.
  if (!events.isOpen && !ticking) ticking = window.setInterval(show, 1000);
  else if (events.isOpen && ticking) {
    clearInterval(ticking);
    ticking = 0;
  }
}

/** @param {string} id @param {string} text */
function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function showMicButton() {
  const button = byId('mic-button');
  const hold = voice.mode === 'hold';
  const live = hold ? voice.held : voice.micOn;
  button.setAttribute('aria-pressed', String(live));
  button.classList.toggle('live', live);
  button.classList.toggle('starting', voice.micStarting);
  const label = hold ? 'Hold to talk' : live ? 'Turn the microphone off' : 'Turn the microphone on';
  button.setAttribute('aria-label', label);
  button.title = label;
  byId('mode-handsfree').setAttribute('aria-checked', String(!hold));
  byId('mode-hold').setAttribute('aria-checked', String(hold));
  body.classList.toggle('hold-mode', hold);
  const mute = byId('mute-button');
  mute.hidden = !voice.micOn || hold;
  mute.setAttribute('aria-pressed', String(voice.muted));
  mute.title = voice.muted ? 'Be heard again (M)' : 'Mute the microphone (M)';
  button.classList.toggle('muted', live && voice.muted);
  byId('meter').dataset.on = String(voice.micOn);
  setText('vad-state', !voice.micOn ? '' : voice.muted ? 'muted' : voice.hearing ? 'speech' : hold && !voice.held ? 'not sent' : 'quiet');
}

let levelShown = 0;
/** @param {number} level */
function showLevel(level) {
  const now = performance.now();
  if (level && now - levelShown < 120) return;
  levelShown = now;
  // -50..-6 dB on the bar: below is a quiet room, above is shouting.
  const decibel = level > 0 ? 20 * Math.log10(level) : -50;
  // In steps: each change is a frame of the page.
  const shown = (Math.round(Math.max(0, Math.min(1, (decibel + 50) / 44)) * 20) / 20).toFixed(2);
  const speech = String(voice.probability > 0.5);
  const meter = byId('meter');
  if (meter.dataset.level !== shown) {
    meter.dataset.level = shown;
    byId('meter-fill').style.transform = `scaleX(${shown})`;
    byId('mic-button').style.setProperty('--level', shown);
  }
  if (meter.dataset.speech !== speech) meter.dataset.speech = speech;
  if (voice.hearing || (voice.micOn && !voice.audio.playing)) face.hear(level);
}

/** @param {import('./audio.js').NoMicrophone|null} problem */
function showMicrophone(problem) {
  const line = byId('mic-note');
  line.hidden = !problem;
  line.textContent = problem?.message ?? '';
  line.dataset.reason = problem?.reason ?? '';
  const button = /** @type {HTMLButtonElement} */ (byId('mic-button'));
  // What cannot change while the page is open makes the button dead; the rest may be tried again.
  button.disabled = ['insecure', 'unsupported', 'worklet'].includes(problem?.reason ?? '');
  setIcon(button, problem ? 'mic-off' : 'mic');
}

function showSpeech() {
  const engines = panel.status?.engines;
  const toggle = /** @type {HTMLButtonElement} */ (byId('speak-toggle'));
  toggle.setAttribute('aria-pressed', String(voice.speak));
  setIcon(toggle, voice.speak ? 'speaker' : 'speaker-off');
  toggle.title = engines?.tts && !engines.tts.ready ? `No voice now: ${engines.tts.detail || 'the engine is not ready'}` : voice.speak ? 'Replies are spoken' : 'Replies are only written';
}

/** @param {'left'|'right'|'none'} which */
function drawer(which) {
  body.dataset.drawer = which;
  byId('open-left').setAttribute('aria-expanded', String(which === 'left'));
  byId('open-right').setAttribute('aria-expanded', String(which === 'right'));
  if (which !== 'none') /** @type {HTMLElement|null} */ (byId(which).querySelector('button'))?.focus();
}

/** @param {'light'|'dark'} theme */
function setTheme(theme) {
  root.dataset.theme = theme;
  const button = byId('theme-toggle');
  setIcon(button, theme === 'dark' ? 'sun' : 'moon');
  button.setAttribute('aria-label', `Change to ${theme === 'dark' ? 'light' : 'dark'} colours`);
  document.querySelector('meta[name=theme-color]')?.setAttribute('content', getComputedStyle(root).getPropertyValue('--bg').trim());
}

function wireTheme() {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const systemTheme = () => (system.matches ? 'dark' : 'light');
  setTheme(root.dataset.theme === 'dark' ? 'dark' : 'light');
  byId('theme-toggle').addEventListener('click', () => {
    const next = root.dataset.theme === 'dark' ? 'light' : 'dark';
    setTheme(next);
    // Back at the system's choice the page follows the system again.
    prefs.set('theme', next === systemTheme() ? null : next);
  });
  system.addEventListener('change', () => {
    if (!prefs.get('theme')) setTheme(systemTheme());
  });
}

function wireVoice() {
  const mic = byId('mic-button');
  mic.addEventListener('click', () => {
    if (voice.mode === 'handsfree') void voice.toggleMicrophone();
  });
  mic.addEventListener('pointerdown', (event) => {
    if (voice.mode !== 'hold' || event.button !== 0) return;
    mic.setPointerCapture(event.pointerId);
    void voice.holdStart();
  });
  for (const name of ['pointerup', 'pointercancel', 'lostpointercapture']) mic.addEventListener(name, () => void voice.holdEnd());
  mic.addEventListener('contextmenu', (event) => event.preventDefault());
  for (const [id, mode] of /** @type {const} */ ([['mode-handsfree', 'handsfree'], ['mode-hold', 'hold']])) {
    byId(id).addEventListener('click', () => {
      prefs.set('mode', mode);
      voice.setMode(mode);
    });
  }
  byId('speak-toggle').addEventListener('click', () => {
    voice.setSpeak(!voice.speak);
    prefs.set('speak', voice.speak ? null : 'no');
    showSpeech();
  });
  byId('mute-button').addEventListener('click', () => voice.setMuted(!voice.muted));
  byId('stop-button').addEventListener('click', () => void voice.stop());
  addEventListener('blur', () => void voice.holdEnd());
  const look = () => void findMicrophoneProblem().then((problem) => !voice.micOn && showMicrophone(problem));
  navigator.mediaDevices?.addEventListener?.('devicechange', look);
  look();
}

/** @param {EventTarget|null} target */
function takesKeys(target) {
  return target instanceof HTMLElement && Boolean(target.closest('input, textarea, select, button, a, dialog, [contenteditable]'));
}

/** @param {EventTarget|null} target */
function writes(target) {
  return target instanceof HTMLElement && Boolean(target.closest('input, textarea, select, [contenteditable]'));
}

function wireKeys() {
  addEventListener('keydown', (event) => {
    const dialogOpen = Boolean(document.querySelector('dialog[open]'));
    if (event.key === 'Escape' && !dialogOpen) {
      if (body.dataset.drawer !== 'none') drawer('none');
      else void voice.stop();
    } else if (event.ctrlKey && !event.shiftKey && !event.altKey && event.key.toLowerCase() === 'l') {
      event.preventDefault();
      terminal.clear();
    } else if (event.key === '/' && !dialogOpen && !takesKeys(event.target)) {
      event.preventDefault();
      composer.input.focus();
    } else if (event.key.toLowerCase() === 'm' && !event.ctrlKey && !event.altKey && !event.metaKey && !event.repeat && !dialogOpen && !writes(event.target)) {
      if (voice.micOn && voice.mode === 'handsfree') voice.setMuted(!voice.muted);
    } else if (event.code === 'Space' && voice.mode === 'hold' && (event.target === byId('mic-button') || !takesKeys(event.target))) {
      event.preventDefault();
      if (!event.repeat) void voice.holdStart();
    }
  });
  addEventListener('keyup', (event) => {
    if (event.code === 'Space' && voice.held) {
      event.preventDefault();
      void voice.holdEnd();
    }
  });
}

function wireDrawers() {
  byId('open-left').addEventListener('click', () => drawer(body.dataset.drawer === 'left' ? 'none' : 'left'));
  byId('open-right').addEventListener('click', () => drawer(body.dataset.drawer === 'right' ? 'none' : 'right'));
  byId('open-settings').addEventListener('click', () => settings.open(voice.audio.echo));
  byId('scrim').addEventListener('click', () => drawer('none'));
}

window.choir = {
  trace: (callback) => face.painter?.trace(callback),
  stats: () => ({
    ...voice.audio.totals,
    route: voice.audio.route,
    context: voice.audio.context?.state ?? 'none',
    playing: voice.audio.playing,
    paused: voice.paused,
    muted: voice.muted,
    echo: voice.audio.echo,
    draws: face.draws,
    hearing: voice.hearing,
    micOn: voice.micOn,
    session: voice.ready,
    flushes: voice.flushCount,
    framesDropped: voice.framesDropped,
    state: body.dataset.state ?? '',
  }),
};

wireTheme();
wireVoice();
wireKeys();
wireDrawers();
showSpeech();
show();
events.start();
void panel.refresh();
void owner.refresh();
void memory.probe();
if (canHover) composer.input.focus();
