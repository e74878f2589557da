// The browser's half of the sound: one AudioContext, one capture node, one player node, made once.
import { byId } from './dom.js';
import { chooseRoute, Loopback } from './route.js';

/** @typedef {import('./types').PlayerReport} PlayerReport */
/** @typedef {import('./types').SoundOptions} SoundOptions */
/** @typedef {{frame: (pcm: Int16Array, level: number) => void, report: (report: PlayerReport) => void, ended: (why: string) => void}} AudioHandlers */

const RATE = 24000;
const IDLE_MS = 20000;
/** A report older than this says nothing about what is heard now. */
const CLOCK_MS = 200;

/** Why there is no microphone, in a sentence that says what to do. */
export class NoMicrophone extends Error {
  /** @param {'insecure'|'unsupported'|'worklet'|'none'|'denied'|'busy'|'failed'} reason @param {string} message */
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

/** What can be known without asking for the microphone; null: nothing speaks against it. */
export function microphoneProblem() {
  if (!window.isSecureContext) {
    const here = location.port ? `http://127.0.0.1:${location.port}` : 'http://127.0.0.1';
    return new NoMicrophone('insecure', `No microphone: browsers give it only to https pages and to this machine itself. Open ${here} where Choir runs, or put https in front. Typing works.`);
  }
  if (!navigator.mediaDevices?.getUserMedia) return new NoMicrophone('unsupported', 'No microphone: this browser cannot record sound. Typing works.');
  if (!window.AudioWorkletNode) return new NoMicrophone('worklet', 'No microphone: this browser has no AudioWorklet, which the sound needs. A newer one does. Typing works.');
  return null;
}

/** @returns {Promise<NoMicrophone|null>} also looks for a device and for a standing refusal */
export async function findMicrophoneProblem() {
  const problem = microphoneProblem();
  if (problem) return problem;
  try {
    const permission = await navigator.permissions.query({ name: /** @type {PermissionName} */ ('microphone') });
    if (permission.state === 'denied') return denied();
  } catch {
    // Firefox does not answer for the microphone; asking for it will tell.
  }
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => null);
  return devices && !devices.some((device) => device.kind === 'audioinput') ? none() : null;
}

function denied() {
  return new NoMicrophone('denied', 'No microphone: it is blocked for this page. Allow it in the site settings beside the address, then press the button again. Typing works.');
}

function none() {
  return new NoMicrophone('none', 'No microphone: none is attached to this machine. Plug one in; typing works.');
}

/** @param {unknown} error */
function explain(error) {
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'NotAllowedError' || name === 'SecurityError') return denied();
  if (name === 'NotFoundError' || name === 'OverconstrainedError') return none();
  if (name === 'NotReadableError' || name === 'AbortError') return new NoMicrophone('busy', 'No microphone: another program holds it, or the system refuses it. Typing works.');
  return new NoMicrophone('failed', `No microphone: ${error instanceof Error ? error.message : String(error)} Typing works.`);
}

export class Audio {
  /** @param {AudioHandlers} handlers @param {SoundOptions} options */
  constructor(handlers, options) {
    this.handlers = handlers;
    this.options = options;
    /** @type {AudioContext|null} */
    this.context = null;
    /** @type {AudioWorkletNode|null} */
    this.player = null;
    /** @type {AudioWorkletNode|null} */
    this.capture = null;
    /** @type {Promise<void>|null} */
    this.opening = null;
    /** @type {MediaStream|null} */
    this.stream = null;
    /** @type {MediaStreamAudioSourceNode|null} */
    this.source = null;
    this.route = 'none';
    /** @type {MediaStreamAudioDestinationNode|null} */
    this.out = null;
    /** @type {Loopback|null} */
    this.loopback = null;
    /** What the browser says it does with the microphone; '': it is closed. */
    this.echo = '';
    this.muted = false;
    /** @type {PlayerReport|null} */
    this.last = null;
    this.held = false;
    this.flushes = 0;
    this.idleTimer = 0;
    /** @type {Map<number, () => void>} */
    this.waiting = new Map();
    /** Figures since the page was opened. */
    this.totals = { loud: 0, underruns: 0, dropped: 0, played: 0, flushMs: 0 };
    this.playing = false;
  }

  /** Call from a click or a key, or browsers keep the sound off. */
  open() {
    this.opening ??= this.build().catch((error) => {
      this.opening = null;
      throw error;
    });
    if (this.context?.state === 'suspended') void this.context.resume().catch(() => {});
    return this.opening;
  }

  async build() {
    if (!window.AudioWorkletNode) throw new Error('This browser has no AudioWorklet: replies cannot be heard.');
    const context = new AudioContext({ latencyHint: 'interactive' });
    this.context = context;
    await Promise.all(['player-worklet.js', 'capture-worklet.js'].map((name) => context.audioWorklet.addModule(new URL(name, import.meta.url))));
    this.player = new AudioWorkletNode(context, 'choir-player', { numberOfInputs: 0, outputChannelCount: [1] });
    this.player.port.onmessage = (event) => this.report(event.data);
    this.capture = new AudioWorkletNode(context, 'choir-capture', { channelCount: 1, channelCountMode: 'max' });
    this.capture.port.onmessage = (event) => this.handlers.frame(event.data.pcm, event.data.level);
    // The capture node is silent; it is connected because an unconnected node may not be run.
    this.capture.connect(context.destination);
    void context.resume().catch(() => {});
    await this.routeOut(context);
  }

  /** Playback goes where the browser's echo canceller can know of it (route.js). @param {AudioContext} context */
  async routeOut(context) {
    const player = /** @type {AudioWorkletNode} */ (this.player);
    const element = /** @type {HTMLAudioElement} */ (byId('voice-out'));
    const wanted = chooseRoute(this.options.route, this.echo);
    if (wanted === this.route) return;
    this.out ??= context.createMediaStreamDestination();
    player.disconnect();
    player.connect(this.out);
    this.loopback?.close();
    this.loopback = null;
    try {
      if (wanted === 'direct') throw new Error('asked for');
      if (wanted === 'peer') this.loopback = await Loopback.open(this.out.stream);
      element.srcObject = this.loopback?.stream ?? this.out.stream;
      // In a context that may not run yet play() waits for ever.
      await Promise.race([element.play(), new Promise((_, reject) => setTimeout(() => reject(new Error('no sound')), 1500))]);
      this.route = wanted;
    } catch {
      this.loopback?.close();
      this.loopback = null;
      player.disconnect();
      element.srcObject = null;
      player.connect(context.destination);
      this.route = 'direct';
    }
  }

  /** @param {SoundOptions} options */
  async configure(options) {
    const again = options.echo !== this.options.echo || options.noise !== this.options.noise;
    this.options = options;
    if (again && this.stream) {
      this.stopCapture();
      await this.startCapture();
    } else if (this.context) await this.routeOut(this.context);
  }

  /** Opens the microphone; throws NoMicrophone. */
  async startCapture() {
    if (this.stream) return;
    const problem = microphoneProblem();
    if (problem) throw problem;
    let stream;
    try {
      await this.open();
      stream = await navigator.mediaDevices.getUserMedia({ audio: this.constraints() });
    } catch (error) {
      throw explain(error);
    }
    this.stream = stream;
    const [track] = stream.getAudioTracks();
    track.enabled = !this.muted;
    this.echo = String(track.getSettings().echoCancellation ?? 'unknown');
    track.addEventListener('ended', () => {
      if (this.stream !== stream) return;
      this.stopCapture();
      this.handlers.ended('The microphone was taken away.');
    });
    this.source = /** @type {AudioContext} */ (this.context).createMediaStreamSource(stream);
    this.source.connect(/** @type {AudioWorkletNode} */ (this.capture));
    this.settle();
    // Only now does the browser say whose sound it cancels.
    await this.routeOut(/** @type {AudioContext} */ (this.context));
  }

  constraints() {
    const { echo, noise } = this.options;
    // "all" is newer than true, and any browser without it takes it for true.
    const cancel = /** @type {ConstrainBoolean} */ (/** @type {unknown} */ (echo ? { ideal: 'all' } : false));
    return { echoCancellation: cancel, noiseSuppression: noise, autoGainControl: true, channelCount: 1 };
  }

  /** @param {boolean} muted the microphone stays open and hears nothing */
  mute(muted) {
    this.muted = muted;
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  stopCapture() {
    this.source?.disconnect();
    this.source = null;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.echo = '';
    this.settle();
  }

  /** @param {string} item @param {Int16Array} pcm 24 kHz */
  play(item, pcm) {
    if (!this.player) return;
    if (this.context?.state === 'suspended') void this.context.resume().catch(() => {});
    this.player.port.postMessage({ type: 'audio', item, pcm }, [pcm.buffer]);
    this.playing = true;
    this.settle();
  }

  /** @param {string} item no more sound of it will come */
  end(item) {
    this.player?.port.postMessage({ type: 'end', item });
  }

  /** Dies away and keeps the rest. */
  pause() {
    this.player?.port.postMessage({ type: 'pause' });
  }

  /** @param {string} item @param {number} sample of the item to go on from */
  resume(item, sample) {
    this.player?.port.postMessage({ type: 'resume', item, sample });
  }

  /** What is heard now, by the audio clock. @returns {{item: string, sample: number}|null} null: nothing moves */
  clock() {
    const { last, context } = this;
    if (!last?.moving || !context) return null;
    const since = context.currentTime - last.time - (context.outputLatency || context.baseLatency || 0);
    if (since > CLOCK_MS / 1000) return null;
    return { item: last.item, sample: last.sample + since * RATE };
  }

  /** Silence now. Resolves when the player has said what was played until then. */
  async flush() {
    if (!this.player || !this.playing) return;
    const id = ++this.flushes;
    const asked = performance.now();
    const answered = new Promise((resolve) => this.waiting.set(id, () => resolve(undefined)));
    this.player.port.postMessage({ type: 'flush', id });
    await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, 60))]);
    this.waiting.delete(id);
    this.totals.flushMs = performance.now() - asked;
  }

  /** @param {PlayerReport} report */
  report(report) {
    this.playing = report.playing;
    this.held = report.held;
    this.last = report;
    this.totals.loud = report.loud;
    this.totals.dropped = report.dropped;
    this.totals.underruns += report.underruns;
    for (const item of report.items) this.totals.played = item.played;
    this.handlers.report(report);
    if (report.flush) this.waiting.get(report.flush)?.();
    if (!report.playing) this.settle();
  }

  /** With nothing to do for a while the sound engine sleeps: it costs an old processor a few percent. */
  settle() {
    clearTimeout(this.idleTimer);
    if (this.stream || this.playing) return;
    this.idleTimer = window.setTimeout(() => void this.context?.suspend().catch(() => {}), IDLE_MS);
  }
}
