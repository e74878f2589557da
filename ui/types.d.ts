// Shapes on the wire (docs/http.md). Types only: this file is not served.

export interface Entry {
  id: number | string;
  role: string;
  text: string;
  source: string;
  cut: boolean;
  time: unknown;
}

export interface ConversationSummary {
  id: number | string;
  title: string;
  turns: number;
  updated: unknown;
}

export interface EngineStatus {
  engine: string;
  ready: boolean;
  detail?: string;
  progress?: number;
}

export interface Child {
  name: string;
  pid: number;
  state: string;
  restarts: number;
  rss_kb: number;
  error?: string | null;
}

export interface Status {
  status: string;
  version: string;
  state: string;
  uptime_s: number;
  model?: {
    name: string;
    state: string;
    progress?: number | string;
    variant?: string;
    variant_why?: string;
    why?: string;
    batch?: number;
    ubatch?: number;
    threads?: number;
    weak?: boolean;
    note?: string;
  };
  engines?: { vad?: EngineStatus; stt?: EngineStatus; tts?: EngineStatus };
  children?: Child[];
  /** The machine's own microphone and speaker. */
  card?: { microphone: string; speaker?: string; ready?: boolean; detail?: string; state?: string };
  missing?: { what: string; why: string; remedy: string }[];
  queue?: number;
  sessions?: number;
  memory_kb?: number;
  log_drops?: number;
  loop_lag_ms?: number;
  /** Copies of the state on other nodes; null: none are to be. */
  standby?: {
    node: string;
    epoch: number;
    generation: number;
    turns: number;
    behind: number | null;
    problem: string | null;
    copies: { url: string; node: string; epoch: number; generation: number; age_s: number | null; problem: string | null }[];
    taken: { from: string; turns: number; lost: number | null } | null;
  } | null;
  fetch?: { name: string; done: number; total: number; error?: string | null } | null;
}

export interface Model {
  name: string;
  present: boolean;
  memory_mb: number;
  bytes: number;
  verified: boolean;
  dense: boolean;
  note?: string;
  fits: boolean;
}

/** A request that waits for a yes or no. */
export interface Approval {
  id: string;
  digest: string;
  tool: string;
  action: string;
  args?: Record<string, unknown>;
  target: string;
  session: string;
  class: string;
  once: boolean;
  reasons?: string[];
  preview?: string;
  expires_ms: number;
  verdict?: string;
  by?: string;
}

export interface Grant {
  session: string;
  signature: string;
  by: string;
}

export interface Tool {
  id: string;
  title?: string;
  help?: string;
  available: boolean;
  reason?: string;
  remedy?: string;
  actions: { name: string; help?: string; class: string; schema?: { properties?: Record<string, { type?: string }>; required?: string[] }; timeout_s?: number }[];
}

export interface Fact {
  id: number;
  text: string;
  source?: string;
  time?: unknown;
  tainted?: boolean;
  uses?: number;
  superseded_by?: number;
}

export interface Me {
  name: string;
  role: string;
  channel: string;
  logged_in: boolean;
  owner_exists: boolean;
  may_approve: boolean;
  lan?: boolean;
  tls_port?: number;
}

/** First sample of the item (24 kHz) and the mouth shape that begins with it. */
export type Viseme = [number, string];

export type Route = 'auto' | 'element' | 'peer' | 'direct';

/** What a person may change about the sound, kept by the browser. */
export interface SoundOptions {
  echo: boolean;
  noise: boolean;
  route: Route;
}

/** What the player worklet says every 30 ms while it plays. */
export interface PlayerReport {
  type: 'report';
  items: { item: string; played: number }[];
  underruns: number;
  level: number;
  buffered: number;
  playing: boolean;
  /** Paused: what is buffered is kept. */
  held: boolean;
  /** What is heard at `time` of the audio clock, and whether it goes on from there. */
  item: string;
  sample: number;
  time: number;
  moving: boolean;
  /** Samples above silence since the start, at the context's rate: proof that something was heard. */
  loud: number;
  dropped: number;
  flush?: number;
}

declare global {
  // The scope of an AudioWorklet, which the DOM's types leave out.
  const sampleRate: number;
  const currentTime: number;
  class AudioWorkletProcessor {
    readonly port: MessagePort;
  }
  function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

  interface Window {
    /** For tests and the curious: figures of the audio path. */
    choir: {
      stats: () => Record<string, number | string | boolean>;
      /** Called for every drawing of the mouth. */
      trace: (callback: (drawn: { at: number; name: string; open: number; draws: number }) => void) => void;
    };
  }
}
