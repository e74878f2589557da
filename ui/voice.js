// The page as a client of the OpenAI Realtime protocol (docs/http.md): typed input, microphone, spoken replies, and
// silence at once when the person speaks, stops, or the server says that the reply was cut.
import { Audio, NoMicrophone } from './audio.js';
import { Socket } from './socket.js';

/** @typedef {import('./types').PlayerReport} PlayerReport */
/** @typedef {import('./types').SoundOptions} SoundOptions */
/** @typedef {import('./types').Viseme} Viseme */
/**
 * @typedef {object} VoiceHandlers
 * @property {() => void} changed something that is shown has changed
 * @property {(level: number) => void} micLevel 0..1
 * @property {(level: number) => void} mouthLevel 0..1
 * @property {(item: string, visemes: Viseme[]) => void} visemes mouth shapes of an item, before its sound
 * @property {(text: string) => void} note a hint for the person
 * @property {(text: string) => void} sound how the playback fares, from the server
 * @property {() => void} unheard the last reply was cut before a word of it was heard
 * @property {(text: string) => void} error one sentence
 * @property {(why: NoMicrophone|null) => void} microphone null: it works
 */

const READY_MS = 4000;
/** Sound that could not be sent yet; more than this and the newest is thrown away, or it would all arrive late. */
const MOST_BACKLOG = 256 * 1024;
const SHORTEST_HOLD_MS = 250;
/** The last frame of a held turn is still on its way when the button is let go. */
const HOLD_TAIL_MS = 120;
const MIC_IDLE_MS = 30000;
/** After muting the server still gets so much silence: it ends the turn by that, as if the person had stopped. */
const MUTE_TAIL_MS = 1500;
const REQUESTED = 'requested';
const QUIET_ERRORS = ['response_cancel_not_active', 'input_audio_buffer_commit_empty', 'nothing_to_answer'];

export class Voice {
  /** @param {VoiceHandlers} handlers @param {{mode: 'handsfree'|'hold', speak: boolean, sound: SoundOptions}} options */
  constructor(handlers, { mode, speak, sound }) {
    this.handlers = handlers;
    this.mode = mode;
    this.speak = speak;
    this.micOn = false;
    this.micStarting = false;
    this.muted = false;
    this.mutedAt = 0;
    this.held = false;
    this.heldAt = 0;
    /** The server pauses a reply before it cuts it: speech alone does not end one. */
    this.pauses = false;
    /** The reply before was cut by speech, and no other has begun. */
    this.interrupted = false;
    /** The session sleeps until the wake word; what it says about that. */
    this.asleep = '';
    /** The person is speaking now, says the server. */
    this.hearing = false;
    this.probability = 0;
    this.serverState = 'idle';
    this.ready = false;
    /** @type {string|null} the reply that is being made; REQUESTED before the server has given it a name */
    this.response = null;
    /** @type {string|null} the item that is played or waits to be */
    this.item = null;
    /** @type {Set<string>} items that were cut: what still comes of them is thrown away */
    this.dead = new Set();
    this.wasPlaying = '';
    this.framesDropped = 0;
    this.flushCount = 0;
    /** @type {Array<(ok: boolean) => void>} */
    this.onReady = [];
    this.micTimer = 0;
    this.audio = new Audio({
      frame: (pcm, level) => this.frame(pcm, level),
      report: (report) => this.report(report),
      ended: (why) => this.microphoneLost(why),
    }, sound);
    this.socket = new Socket('/v1/realtime?choir=1', {
      message: (data) => this.message(data),
      state: ({ state }) => {
        if (state === 'open') return;
        this.ready = false;
        this.response = null;
        this.hearing = false;
        this.pauses = false;
        this.asleep = '';
        this.serverState = 'idle';
        if (state === 'waiting') {
          void this.audio.flush();
          this.settleReady(false);
        }
        this.handlers.changed();
      },
    });
  }

  /** A reply is being made or heard. */
  get busy() {
    return this.response !== null || this.audio.playing;
  }

  /** @returns {Promise<boolean>} false: the server does not take us now */
  connect() {
    if (this.ready) return Promise.resolve(true);
    this.socket.start();
    return new Promise((resolve) => {
      this.onReady.push(resolve);
      setTimeout(() => resolve(this.ready), READY_MS);
    });
  }

  /** @param {boolean} ok */
  settleReady(ok) {
    for (const resolve of this.onReady.splice(0)) resolve(ok);
  }

  /** No voice session to be had: asked for again when it is needed again. */
  refused() {
    this.socket.stop();
    this.settleReady(false);
  }

  configure() {
    const turns = this.mode === 'handsfree' ? { type: 'server_vad', create_response: true, interrupt_response: true } : null;
    this.socket.send({
      type: 'session.update',
      session: {
        type: 'realtime',
        output_modalities: [this.speak ? 'audio' : 'text'],
        audio: {
          input: { format: { type: 'audio/pcm', rate: 24000 }, turn_detection: turns },
          output: { format: { type: 'audio/pcm', rate: 24000 } },
        },
      },
    });
  }

  /**
   * A typed turn. Stops a reply that is still running, as a person would who speaks up.
   * @param {string} text
   * @returns {Promise<boolean>}
   */
  async sendText(text) {
    if (this.speak) await this.audio.open().catch((error) => this.handlers.error(error.message));
    if (!(await this.connect())) return false;
    await this.stop();
    const item = { type: 'message', role: 'user', content: [{ type: 'input_text', text }] };
    return this.socket.send({ type: 'conversation.item.create', item }) && this.request();
  }

  request() {
    const sent = this.socket.send({ type: 'response.create' });
    if (sent) {
      this.response = REQUESTED;
      this.interrupted = false;
    }
    this.handlers.changed();
    return sent;
  }

  /** Silence, and no more of this reply. */
  async stop() {
    if (!this.busy) return;
    await this.silence();
    this.socket.send({ type: 'response.cancel' });
    this.response = null;
    this.handlers.changed();
  }

  /** Playback stops within one quantum; what was played is reported before anything else is said. */
  async silence() {
    if (this.item) this.kill(this.item);
    if (!this.audio.playing) return;
    this.flushCount++;
    await this.audio.flush();
  }

  /** @param {string} item */
  kill(item) {
    this.dead.add(item);
    if (this.dead.size > 64) this.dead.delete(/** @type {string} */ (this.dead.values().next().value));
    if (this.item === item) this.item = null;
  }

  /** @param {boolean} speak */
  setSpeak(speak) {
    this.speak = speak;
    if (!speak) void this.silence();
    if (this.ready) this.configure();
  }

  /** @param {'handsfree'|'hold'} mode */
  setMode(mode) {
    if (mode === this.mode) return;
    this.mode = mode;
    if (this.micOn && mode === 'hold') this.closeMicrophone();
    if (this.ready) this.configure();
    this.handlers.changed();
  }

  async toggleMicrophone() {
    if (this.micOn) {
      this.socket.send({ type: 'input_audio_buffer.clear' });
      this.closeMicrophone();
    } else await this.openMicrophone();
  }

  async openMicrophone() {
    clearTimeout(this.micTimer);
    if (this.micOn || this.micStarting) return this.micOn;
    this.micStarting = true;
    this.handlers.changed();
    try {
      await this.audio.startCapture();
      this.micOn = true;
      this.handlers.microphone(null);
      if (!(await this.connect())) this.handlers.error('The microphone is on, but Choir takes no voice session now. It tries again by itself.');
    } catch (error) {
      this.handlers.microphone(error instanceof NoMicrophone ? error : new NoMicrophone('failed', String(error)));
    }
    this.micStarting = false;
    this.handlers.changed();
    return this.micOn;
  }

  closeMicrophone() {
    clearTimeout(this.micTimer);
    this.audio.stopCapture();
    this.micOn = false;
    this.setMuted(false);
    this.held = false;
    this.hearing = false;
    this.handlers.micLevel(0);
    this.handlers.changed();
  }

  /** @param {boolean} muted the microphone stays open, nothing of it is used */
  setMuted(muted) {
    if (muted === this.muted) return;
    this.muted = muted;
    this.mutedAt = performance.now();
    this.audio.mute(muted);
    this.tellMuted();
    if (muted) this.handlers.micLevel(0);
    this.handlers.changed();
  }

  /** The server ends the turn at once, instead of waiting for a silence that no microphone brings. */
  tellMuted() {
    this.socket.send({ type: 'choir.mute', muted: this.muted });
  }

  /** The reply that is heard was paused by the server, or speech began over it. */
  get paused() {
    return this.audio.playing && this.audio.held;
  }

  /** @param {string} why */
  microphoneLost(why) {
    this.closeMicrophone();
    this.handlers.error(why);
  }

  /** Push to talk: down. */
  async holdStart() {
    if (this.held) return;
    this.held = true;
    this.heldAt = performance.now();
    this.handlers.changed();
    if (!(await this.openMicrophone())) {
      this.held = false;
      this.handlers.changed();
      return;
    }
    clearTimeout(this.micTimer);
    // Let go while the browser was still asking for permission.
    if (!this.held) return;
    await this.stop();
    this.socket.send({ type: 'input_audio_buffer.clear' });
    this.handlers.changed();
  }

  /** Push to talk: up. */
  async holdEnd() {
    if (!this.held) return;
    const long = performance.now() - this.heldAt >= SHORTEST_HOLD_MS;
    if (long && this.micOn) await new Promise((resolve) => setTimeout(resolve, HOLD_TAIL_MS));
    this.held = false;
    if (!this.micOn) return;
    if (long) {
      this.socket.send({ type: 'input_audio_buffer.commit' });
      this.request();
    } else {
      this.socket.send({ type: 'input_audio_buffer.clear' });
      this.handlers.note('Hold it for as long as you talk, then let go.');
    }
    this.micTimer = window.setTimeout(() => this.closeMicrophone(), MIC_IDLE_MS);
    this.handlers.changed();
  }

  /** @param {Int16Array} pcm @param {number} level */
  frame(pcm, level) {
    if (!this.micOn) return;
    this.handlers.micLevel(level);
    if (this.muted && performance.now() - this.mutedAt > MUTE_TAIL_MS) return;
    if (this.mode === 'hold' && !this.held) return;
    if (!this.ready || this.socket.backlog > MOST_BACKLOG) {
      this.framesDropped++;
      return;
    }
    this.socket.send({ type: 'input_audio_buffer.append', audio: encode(pcm) });
  }

  /** @param {PlayerReport} report */
  report(report) {
    let { underruns } = report;
    for (const { item, played } of report.items) {
      this.socket.send({ type: 'choir.playout', item_id: item, played_samples: played, underruns });
      underruns = 0;
    }
    this.handlers.mouthLevel(report.moving ? report.level : 0);
    // Thirty reports a second; only a beginning, a pause and an end change what is written.
    const now = `${report.playing} ${report.held}`;
    if (now === this.wasPlaying) return;
    this.wasPlaying = now;
    this.handlers.changed();
  }

  /** @param {{code?: string, message?: string}|undefined} error why a reply failed */
  failed(error) {
    const message = error?.message ?? 'The reply failed.';
    if (error?.code === 'nothing_understood') this.handlers.note(message);
    else this.handlers.error(message);
  }

  /** @param {string} text what the session has to say about itself */
  status(text) {
    if (/^lead |playback/.test(text)) this.handlers.sound(text);
    else if (/^(asleep|awake)\b/.test(text)) this.asleep = text.startsWith('asleep') ? text : '';
    else this.handlers.note(text);
    this.handlers.changed();
  }

  /** @param {any} event a server event of the Realtime protocol */
  message(event) {
    switch (event.type) {
      case 'session.created':
        this.configure();
        if (this.muted) this.tellMuted();
        return;
      case 'session.updated':
        // Only now: a server that has no room says so after session.created.
        this.ready = true;
        this.settleReady(true);
        break;
      case 'input_audio_buffer.speech_started':
        this.hearing = true;
        if (this.pauses) this.audio.pause();
        else void this.silence();
        break;
      case 'choir.playout.paused':
        this.pauses = true;
        if (this.item === event.item_id) this.audio.pause();
        break;
      case 'choir.playout.resumed':
        this.hearing = false;
        this.audio.resume(event.item_id, Math.round(event.audio_ms * 24));
        break;
      case 'choir.visemes':
        if (!this.dead.has(event.item_id)) this.handlers.visemes(event.item_id, event.visemes ?? []);
        return;
      case 'input_audio_buffer.speech_stopped':
        this.hearing = false;
        this.probability = 0;
        break;
      case 'response.created':
        this.response = event.response?.id ?? 'unknown';
        this.interrupted = false;
        break;
      case 'response.output_audio.delta':
        this.sound(event.item_id, event.delta);
        return;
      case 'response.output_audio.done':
        this.audio.end(event.item_id);
        return;
      case 'response.done':
        this.response = null;
        if (event.response?.status === 'cancelled' && this.paused) void this.silence();
        if (event.response?.status === 'failed') this.failed(event.response.status_details?.error);
        break;
      case 'conversation.item.truncated':
        if (this.item === event.item_id) void this.silence();
        this.kill(event.item_id);
        this.interrupted = this.hearing;
        if (event.text === '') this.handlers.unheard();
        break;
      case 'conversation.item.input_audio_transcription.failed':
        this.handlers.error(event.error?.message ?? 'That could not be understood.');
        break;
      case 'choir.state':
        this.serverState = event.state;
        break;
      case 'choir.vad':
        this.probability = event.probability;
        return;
      case 'choir.status':
        this.status(event.text);
        return;
      case 'error':
        if (this.response === REQUESTED) this.response = null;
        if (event.error?.code === 'too_many_sessions') this.refused();
        if (!QUIET_ERRORS.includes(event.error?.code)) this.handlers.error(event.error?.message ?? 'The voice session reports an error.');
        return;
      default:
        return;
    }
    this.handlers.changed();
  }

  /** @param {string} item @param {string} base64 */
  sound(item, base64) {
    if (this.dead.has(item) || !this.speak) return;
    // A reply that was paused and never taken up again gives way to the next one.
    if (this.paused && this.item && this.item !== item) void this.silence();
    this.item = item;
    this.audio.play(item, decode(base64));
  }
}

/** @param {Int16Array} pcm */
function encode(pcm) {
  return btoa(String.fromCharCode(...new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength)));
}

/** @param {string} base64 */
function decode(base64) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length & ~1);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Int16Array(bytes.buffer);
}
