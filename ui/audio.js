// The browser's half of the sound: one AudioContext, one capture node, one player node, made once.
import { byId } from './dom.js';

/** @typedef {import('./types').PlayerReport} PlayerReport */
/** @typedef {{frame: (pcm: Int16Array, level: number) => void, report: (report: PlayerReport) => void, ended: (why: string) => void}} AudioHandlers */

const IDLE_MS = 20000;

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
  /** @param {AudioHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
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

  /** Browsers cancel the echo of what media elements play: so the player goes through one. @param {AudioContext} context */
  async routeOut(context) {
    const player = /** @type {AudioWorkletNode} */ (this.player);
    const element = /** @type {HTMLAudioElement} */ (byId('voice-out'));
    try {
      const out = context.createMediaStreamDestination();
      element.srcObject = out.stream;
      player.connect(out);
      // In a context that may not run yet play() waits for ever.
      await Promise.race([element.play(), new Promise((_, reject) => setTimeout(() => reject(new Error('no sound')), 1500))]);
      this.route = 'element';
    } catch {
      player.disconnect();
      element.srcObject = null;
      player.connect(context.destination);
      this.route = 'direct';
    }
  }

  /** Opens the microphone; throws NoMicrophone. */
  async startCapture() {
    if (this.stream) return;
    const problem = microphoneProblem();
    if (problem) throw problem;
    let stream;
    try {
      await this.open();
      stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
      });
    } catch (error) {
      throw explain(error);
    }
    this.stream = stream;
    const [track] = stream.getAudioTracks();
    track.addEventListener('ended', () => {
      if (this.stream !== stream) return;
      this.stopCapture();
      this.handlers.ended('The microphone was taken away.');
    });
    this.source = /** @type {AudioContext} */ (this.context).createMediaStreamSource(stream);
    this.source.connect(/** @type {AudioWorkletNode} */ (this.capture));
    this.settle();
  }

  stopCapture() {
    this.source?.disconnect();
    this.source = null;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
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
