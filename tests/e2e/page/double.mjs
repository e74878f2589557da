// A test double of the daemon, for working on the page and for its quick tests: it speaks docs/http.md, answers with
// fixed sentences and plays tones in place of speech. It is no part of the product.
//   node double.mjs [--port 8123 (0: any)] [--fault no-voice|no-tts|old] [--loading MS]
// --fault old: a server that knows no mouth shapes and no pauses. Otherwise speech of under half a second pauses a reply.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';

const UI = join(dirname(fileURLToPath(import.meta.url)), '../../../ui');
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml' };
const RATE = 24000;
const STEP = RATE / 50;
const VOWELS = { aa: 220, E: 300, I: 380, O: 180, U: 260 };

const argument = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at > 0 ? process.argv[at + 1] : fallback;
};
const port = Number(argument('port', '8123'));
const fault = argument('fault', '');

const state = {
  started: Date.now(),
  serial: 0,
  turn: 0,
  current: 1,
  nextConversation: 3,
  model: 'SmolLM2-135M-Instruct',
  loading: Number(argument('loading', '0')),
  fetch: null,
  sessions: new Set(),
  pages: new Set(),
  kept: [],
};
const conversations = new Map([
  [1, { id: 1, title: '', turns: 0, updated: Date.now() * 1000, entries: [] }],
  [2, { id: 2, title: 'Old radios', turns: 1, updated: (Date.now() - 864e5 * 2) * 1000, entries: [] }],
]);
const models = [
  { name: 'SmolLM2-135M-Instruct', present: true, memory_mb: 300, bytes: 98e6, verified: true, dense: true, note: 'Always there. Short answers, often wrong.', fits: true },
  { name: 'Qwen3-1.7B-Instruct', present: false, memory_mb: 1900, bytes: 1.1e9, verified: true, dense: true, note: 'Good talker for a machine with 4 GB.', fits: true },
  { name: 'Qwen3-4B-Instruct', present: false, memory_mb: 3600, bytes: 2.5e9, verified: false, dense: true, note: '', fits: true },
  { name: 'Llama-3.3-70B', present: false, memory_mb: 45000, bytes: 42e9, verified: false, dense: true, note: '', fits: false },
];

function addEntry(role, text, source, cut) {
  const open = conversations.get(state.current);
  open.entries.push({ id: open.entries.length + 1, role, text, source, cut, time: Date.now() * 1000 });
  open.updated = Date.now() * 1000;
  if (role === 'user') {
    open.turns++;
    open.title ||= text.slice(0, 60);
  }
}

function broadcast(message) {
  for (const page of state.pages) page.send(JSON.stringify(message));
}

function log(topic, level, data) {
  const line = { type: 'log', topic, level, data, time: Date.now() * 1000, serial: ++state.serial };
  state.kept = [...state.kept, line].slice(-100);
  for (const page of state.pages) if (level !== 'debug' || page.debug) page.send(JSON.stringify(line));
}

function status() {
  const loading = state.loading > 0 && Date.now() - state.started < state.loading;
  const child = (name, rss, more = {}) => ({ name, pid: 4000 + name.length, state: 'running', restarts: 0, rss_kb: rss, error: null, ...more });
  return {
    status: 'Current pipeline status:\n- Task TwinService: idle\n- Task llama-server: running',
    version: '0.1.0', state: 'idle', uptime_s: (Date.now() - state.started) / 1000,
    model: {
      name: state.model, state: loading ? 'loading' : 'ready', progress: loading ? (Date.now() - state.started) / state.loading : 1,
      variant: 'haswell', why: 'this processor has AVX2 and FMA but no AVX-512', batch: 64, ubatch: 64, threads: 2, weak: state.model.includes('135M'), note: '',
    },
    engines: {
      vad: { engine: 'silero', ready: true, detail: 'threshold 0.5' },
      stt: { engine: 'whisper', ready: true, detail: 'base q8_0' },
      tts: fault === 'no-tts' ? { engine: 'piper', ready: false, detail: 'the voice file is missing' } : { engine: 'piper', ready: true, detail: 'en_US-joe-medium' },
    },
    children: [child('llama-server', 241000), child('choir-ear', 38200), child('choir-stt', 172000, { restarts: 1 }), child('choir-tts', 181000), child('choir-phonemes', 3100)],
    missing: fault === 'no-tts' ? [{ what: 'voice output', why: 'en_US-joe-medium.onnx is not in the cache', remedy: 'Run ./run --setup-only, or set TTS_SERVICE=flite.' }] : [],
    queue: 0, sessions: state.sessions.size, memory_kb: 21400, log_drops: 0, loop_lag_ms: 0.4, fetch: state.fetch,
  };
}

function answerTo(text) {
  if (/story|long|sea/i.test(text)) {
    return 'The sea at night is never quite dark. Each wave carries a little of the sky with it, and lays it down on the sand. Far out a ship blinks twice, and the lighthouse answers, as it has for two hundred years. ' + 'Then the wind turns, the ropes begin to hum, and somebody on the pier starts to sing. '.repeat(3);
  }
  if (/markup|html/i.test(text)) return 'You wrote: <img src=x onerror="window.hacked=1"><script>window.hacked=1</script> and **that** is `text`.';
  return 'I heard you. This is a short answer, so that you can hear what I sound like.';
}

/** One reply, written to every page as it comes. */
class Turn {
  constructor(text, source, { delta = () => {}, done = () => {} } = {}) {
    this.id = `turn-${++state.turn}`;
    this.text = text;
    this.source = source;
    this.said = '';
    this.over = false;
    broadcast({ type: 'user', data: text, source, turn_id: this.id });
    addEntry('user', text, source, false);
    log('twin', 'info', `turn ${this.id} begins (${source})`);
    const words = answerTo(text).match(/\S+\s*/g);
    const step = () => {
      const word = words.shift();
      if (!word) {
        clearInterval(this.timer);
        done();
        return;
      }
      this.said += word;
      broadcast({ type: 'agent_delta', data: word, turn_id: this.id });
      delta(word);
    };
    // The model needs a moment before the first word.
    setTimeout(() => {
      if (!this.over) this.timer = setInterval(step, 35);
    }, 300);
  }

  finish(text, cut) {
    if (this.over) return;
    this.over = true;
    clearInterval(this.timer);
    addEntry('assistant', text, this.source, cut);
    broadcast({ type: 'agent', data: text, turn_id: this.id, source: this.source, ...(cut ? { cut } : {}) });
    log('twin', 'info', `turn ${this.id} ${cut ? `was cut after "${text.slice(-20)}"` : 'is done'}`);
  }
}

function respond(response, code, body, headers = {}) {
  const json = typeof body === 'object' && !Buffer.isBuffer(body);
  response.writeHead(code, { 'Content-Type': json ? 'application/json' : 'text/plain', ...headers });
  response.end(json ? JSON.stringify(body) : body);
}

function asset(request, response) {
  const name = request.url === '/' ? 'index.html' : request.url.slice(1).split('?')[0];
  if (!/^[\w-]+\.(html|css|js|svg)$/.test(name)) return respond(response, 404, { error: { type: 'not_found', code: 'not_found', message: 'no such page' } });
  const host = request.headers.host;
  respond(response, 200, readFileSync(join(UI, name)), {
    'Content-Type': TYPES[extname(name)],
    'Content-Security-Policy': `default-src 'self'; connect-src 'self' ws://${host} wss://${host}; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'`,
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cache-Control': 'no-cache',
  });
}

function openConversation(id) {
  state.current = id;
  broadcast({ type: 'conversation', data: id });
}

function conversationRoute(request, response, id, action, body) {
  const one = conversations.get(id);
  if (!one) return respond(response, 404, { error: { type: 'not_found', code: 'not_found', message: 'no such conversation' } });
  if (action === 'export') return respond(response, 200, { format: 'choir-conversation', version: 1, title: one.title, entries: one.entries });
  if (action === 'open') openConversation(id);
  if (action === 'rename') one.title = body.title;
  if (action === 'delete') {
    conversations.delete(id);
    if (state.current === id) openConversation(newConversation());
  }
  return respond(response, 200, action ? { ok: true } : { id, title: one.title, entries: one.entries });
}

function newConversation() {
  const id = state.nextConversation++;
  conversations.set(id, { id, title: '', turns: 0, updated: Date.now() * 1000, entries: [] });
  return id;
}

function fetchModel(name) {
  const model = models.find((one) => one.name === name);
  state.fetch = { name, done: 0, total: model.bytes, error: null };
  const timer = setInterval(() => {
    state.fetch.done = Math.min(model.bytes, state.fetch.done + model.bytes / 8);
    if (state.fetch.done < model.bytes) return;
    clearInterval(timer);
    model.present = true;
    state.fetch = null;
  }, 400);
}

/** What the page asks for beside the conversation: nothing waits, nothing is remembered, nobody owns it. */
const QUIET = {
  '/api/approvals': { approvals: [], grants: [], may_answer: false },
  '/api/tools': { tools: [], sandbox: 'none' },
  '/api/audit': { entries: [], chain: { good: true, lines: 0, problem: '' } },
  '/api/memory': { facts: [] },
  '/api/me': { name: 'loopback', role: 'operator', channel: 'loopback', logged_in: false, owner_exists: false, may_approve: false, lan: false, tls_port: 0 },
};

function api(request, response, body) {
  const path = request.url.split('?')[0];
  const post = request.method === 'POST';
  const match = /^\/api\/conversations\/(\d+)(?:\/(\w+))?$/.exec(path);
  if (path === '/health') return respond(response, 200, { status: 'ok' });
  if (path === '/api/status') return respond(response, 200, status());
  if (path === '/api/models' && !post) return respond(response, 200, { current: state.model, models });
  if (path === '/api/models/use') {
    state.model = body.name;
    log('llm', 'info', `loading ${body.name}`);
    return respond(response, 200, { ok: true });
  }
  if (path === '/api/models/fetch') {
    fetchModel(body.name);
    return respond(response, 202, { ok: true });
  }
  if (path === '/api/conversations' && post) {
    const id = newConversation();
    openConversation(id);
    return respond(response, 200, { id });
  }
  if (path === '/api/conversations') {
    const list = [...conversations.values()].map(({ id, title, turns, updated }) => ({ id, title, turns, updated }));
    return respond(response, 200, { current: state.current, conversations: list.sort((a, b) => b.updated - a.updated) });
  }
  if (path in QUIET && !post) return respond(response, 200, QUIET[path]);
  if (match) return conversationRoute(request, response, Number(match[1]), match[2], body);
  return asset(request, response);
}

/** What the voice says: silence and vowels by turns, [first sample, mouth shape], the same for every reply. */
function babble(samples) {
  let seed = 7;
  const next = (from, to) => {
    seed = (seed * 48271) % 2147483647;
    return Math.round(((from + ((to - from) * seed) / 2147483647) * RATE) / 1000);
  };
  const list = [];
  for (let at = 0, i = 0; at < samples; i++) {
    list.push([at, i % 3 ? 'PP' : 'sil']);
    at += next(90, 160);
    list.push([at, Object.keys(VOWELS)[i % 5]]);
    at += next(110, 240);
  }
  return list;
}

const BABBLE = babble(RATE * 60);

function babbleAt(sample) {
  let [low, high] = [0, BABBLE.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (BABBLE[middle][0] <= sample) low = middle;
    else high = middle;
  }
  const [first, name] = BABBLE[low];
  return VOWELS[name] ? Math.round(9000 * Math.sin((2 * Math.PI * VOWELS[name] * (sample - first)) / RATE)) : 0;
}

/** A Realtime session with a loudness gate as its VAD and tones as its voice. */
class Session {
  constructor(ws) {
    this.ws = ws;
    this.vad = true;
    this.audioOut = true;
    this.paused = false;
    this.pending = null;
    this.speaking = 0;
    this.quiet = 0;
    this.heard = 0;
    this.item = 0;
    state.sessions.add(this);
    ws.on('message', (data) => this.message(JSON.parse(data)));
    ws.on('close', () => {
      state.sessions.delete(this);
      this.stop('cancelled');
      clearInterval(this.clock);
    });
    this.clock = setInterval(() => this.tick(), 20);
    this.send({ type: 'session.created', session: { type: 'realtime' } });
  }

  send(message) {
    if (this.ws.readyState === 1) this.ws.send(JSON.stringify({ event_id: `e${++state.serial}`, ...message }));
  }

  message(event) {
    if (event.type === 'session.update') {
      this.vad = event.session.audio?.input?.turn_detection !== null;
      this.audioOut = event.session.output_modalities?.[0] !== 'text';
      this.send({ type: 'session.updated', session: event.session });
    } else if (event.type === 'input_audio_buffer.append') this.audio(Buffer.from(event.audio, 'base64'));
    else if (event.type === 'input_audio_buffer.clear') this.heard = this.speaking = 0;
    else if (event.type === 'input_audio_buffer.commit') this.pending = `(${(this.heard / RATE).toFixed(1)} s of held speech)`;
    else if (event.type === 'conversation.item.create') this.pending = event.item.content[0].text;
    else if (event.type === 'response.create' && this.pending) this.respond(this.pending, this.heard ? 'voice' : 'page');
    else if (event.type === 'response.cancel') {
      if (this.reply) this.stop('cancelled');
      else this.send({ type: 'error', error: { type: 'invalid_request_error', code: 'response_cancel_not_active', message: 'no active response' } });
    } else if (event.type === 'choir.playout' && this.reply?.item === event.item_id) this.reply.acked = event.played_samples;
  }

  audio(pcm) {
    let power = 0;
    for (let i = 0; i + 1 < pcm.length; i += 2) power += (pcm.readInt16LE(i) / 32768) ** 2;
    const samples = pcm.length / 2;
    const level = Math.sqrt(power / samples);
    this.heard += samples;
    if (!this.vad) return;
    const loud = level > 0.02;
    this.speaking = loud ? this.speaking + samples : this.speaking;
    this.quiet = loud ? 0 : this.quiet + samples;
    if (fault !== 'old') this.mayPause(loud);
    if (!this.inSpeech && this.speaking > RATE * (this.paused ? 0.5 : 0.15) && loud) {
      this.paused = false;
      this.inSpeech = true;
      this.send({ type: 'input_audio_buffer.speech_started', audio_start_ms: 0, item_id: 'u' });
      this.send({ type: 'choir.state', state: 'listening' });
      this.stop('turn_detected');
    } else if (this.inSpeech && this.quiet > RATE * 0.6) {
      this.inSpeech = false;
      this.speaking = 0;
      this.send({ type: 'input_audio_buffer.speech_stopped', audio_end_ms: 0, item_id: 'u' });
      this.respond('(spoken) tell me a long story', 'voice');
    } else if (!this.inSpeech && this.quiet > RATE * 0.3) this.speaking = 0;
    this.send({ type: 'choir.vad', level, probability: loud ? 0.95 : 0.03 });
  }

  /** Speech over a reply holds it; what comes to nothing within half a second lets it go on. */
  mayPause(loud) {
    const { reply } = this;
    if (!reply?.sent || this.inSpeech) return;
    if (!this.paused && loud && this.speaking > RATE * 0.12) {
      this.paused = true;
      this.send({ type: 'choir.playout.paused', item_id: reply.item });
    } else if (this.paused && this.quiet > RATE * 0.4) {
      this.paused = false;
      this.speaking = 0;
      this.send({ type: 'choir.playout.resumed', item_id: reply.item, audio_ms: Math.floor(reply.acked / 24) });
    }
  }

  respond(text, source) {
    this.stop('cancelled');
    this.pending = null;
    this.heard = 0;
    const reply = { item: `item_${++this.item}`, sent: 0, ready: 0, acked: 0, written: false, phase: 0 };
    this.reply = reply;
    this.send({ type: 'choir.state', state: 'thinking' });
    this.send({ type: 'response.created', response: { id: reply.item, status: 'in_progress' } });
    reply.turn = new Turn(text, source, {
      delta: (word) => (reply.ready += word.length * RATE * 0.06),
      done: () => (reply.written = true),
    });
  }

  /** Sound at most 80 ms ahead of what the page says it played. */
  tick() {
    const reply = this.reply;
    if (!reply) return;
    while (!this.paused && this.audioOut && reply.sent < reply.ready && reply.sent - reply.acked < RATE * 0.08) {
      if (!reply.sent) {
        this.send({ type: 'choir.state', state: 'speaking' });
        if (fault !== 'old') this.send({ type: 'choir.visemes', response_id: reply.item, item_id: reply.item, visemes: BABBLE });
      }
      const pcm = Buffer.alloc(STEP * 2);
      for (let i = 0; i < STEP; i++) {
        pcm.writeInt16LE(babbleAt(reply.sent + i), i * 2);
      }
      reply.sent += STEP;
      this.send({ type: 'response.output_audio.delta', response_id: reply.item, item_id: reply.item, output_index: 0, content_index: 0, delta: pcm.toString('base64') });
    }
    if (!reply.written || (this.audioOut && reply.sent < reply.ready)) return;
    if (!reply.told) {
      reply.told = true;
      this.send({ type: 'response.output_audio.done', response_id: reply.item, item_id: reply.item });
      this.send({ type: 'response.done', response: { id: reply.item, status: 'completed' } });
    }
    if (this.audioOut && reply.acked < reply.sent) return;
    reply.turn.finish(reply.turn.said.trim(), false);
    this.reply = null;
    this.send({ type: 'choir.playout_done', item_id: reply.item });
    this.send({ type: 'choir.state', state: 'idle' });
  }

  stop(reason) {
    const reply = this.reply;
    if (!reply) return;
    this.reply = null;
    this.paused = false;
    const words = Math.round(reply.acked / RATE / 0.06);
    const heard = this.audioOut ? reply.turn.said.slice(0, words) : reply.turn.said;
    this.send({ type: 'response.done', response: { id: reply.item, status: 'cancelled', status_details: { type: 'cancelled', reason } } });
    this.send({ type: 'conversation.item.truncated', item_id: reply.item, content_index: 0, audio_end_ms: Math.round(reply.acked / 24), text: heard });
    reply.turn.finish(heard.trim(), true);
    this.send({ type: 'choir.state', state: 'idle' });
  }
}

const server = createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => api(request, response, parts.length ? JSON.parse(Buffer.concat(parts)) : {}));
});
const sockets = new WebSocketServer({ noServer: true });
server.on('upgrade', (request, socket, head) => {
  const path = request.url.split('?')[0];
  if (path !== '/ws' && (path !== '/v1/realtime' || fault === 'no-voice')) return socket.end('HTTP/1.1 503 Service Unavailable\r\n\r\n');
  return sockets.handleUpgrade(request, socket, head, (ws) => {
    if (path === '/v1/realtime') {
      new Session(ws);
      return;
    }
    state.pages.add(ws);
    ws.on('close', () => state.pages.delete(ws));
    ws.on('message', (data) => {
      const event = JSON.parse(data);
      if (event.type === 'log_filter') ws.debug = event.level === 'debug';
      if (event.type === 'user_message') {
        const turn = new Turn(event.data ?? event.text, 'ws', { done: () => turn.finish(turn.said.trim(), false) });
      }
    });
    ws.send(JSON.stringify({ type: 'hello', version: '0.1.0', conversation: state.current }));
    for (const line of state.kept) ws.send(JSON.stringify(line));
  });
});
setInterval(() => log('hub', 'debug', `loop lag ${(Math.random() * 2).toFixed(1)} ms`), 1000);
server.listen(port, '127.0.0.1', () => {
  const { port: bound } = server.address();
  log('daemon', 'info', `listening on http://127.0.0.1:${bound}`);
  log('llm', 'info', 'llama-server is ready: SmolLM2-135M-Instruct, 2 threads, batch 64');
  log('speech', 'info', 'choir-stt: whisper base q8_0 loaded in 412 ms');
  log('speech', 'warning', 'choir-stt: the first transcription was slow (1840 ms)');
  log('web', 'error', 'a client sent <b>half</b> a frame and left');
  console.log(`double listens on http://127.0.0.1:${bound}`);
});
