// A WebSocket that comes back by itself: waits 0.5 s, then twice as long each time up to 10 s, with a little chance in
// it so that several pages do not knock at the same moment after a restart.

const FIRST_MS = 500;
const LONGEST_MS = 10000;
/** A connection that held this long was a good one: the next wait is short again. */
const GOOD_MS = 5000;

/**
 * @typedef {{state: 'connecting'|'open'|'waiting'|'closed', retryAt: number}} SocketState
 * @typedef {{message: (data: any) => void, open?: () => void, state?: (state: SocketState) => void}} SocketHandlers
 */

export class Socket {
  /** @param {string} path @param {SocketHandlers} handlers */
  constructor(path, handlers) {
    this.path = path;
    this.handlers = handlers;
    /** @type {WebSocket|null} */
    this.ws = null;
    this.delay = FIRST_MS;
    this.timer = 0;
    this.good = 0;
    this.wanted = false;
    /** @type {SocketState} */
    this.state = { state: 'closed', retryAt: 0 };
    this.wake = () => {
      if (this.state.state === 'waiting' && document.visibilityState !== 'hidden') this.connect();
    };
  }

  start() {
    if (this.wanted) return;
    this.wanted = true;
    addEventListener('online', this.wake);
    document.addEventListener('visibilitychange', this.wake);
    this.connect();
  }

  stop() {
    this.wanted = false;
    removeEventListener('online', this.wake);
    document.removeEventListener('visibilitychange', this.wake);
    clearTimeout(this.timer);
    this.ws?.close();
    this.set('closed');
  }

  get isOpen() {
    return this.ws?.readyState === WebSocket.OPEN;
  }

  /** Bytes that wait to be sent. */
  get backlog() {
    return this.ws?.bufferedAmount ?? 0;
  }

  /** @param {object} message @returns {boolean} false: not connected, nothing was sent */
  send(message) {
    if (!this.ws || this.ws.readyState !== WebSocket.OPEN) return false;
    this.ws.send(JSON.stringify(message));
    return true;
  }

  connect() {
    clearTimeout(this.timer);
    const url = new URL(this.path, location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const ws = new WebSocket(url);
    this.ws = ws;
    this.set('connecting');
    ws.addEventListener('open', () => {
      if (ws !== this.ws) return;
      this.good = window.setTimeout(() => (this.delay = FIRST_MS), GOOD_MS);
      this.set('open');
      this.handlers.open?.();
    });
    ws.addEventListener('message', (event) => {
      if (ws !== this.ws || typeof event.data !== 'string') return;
      let data;
      try {
        data = JSON.parse(event.data);
      } catch {
        return;
      }
      this.handlers.message(data);
    });
    ws.addEventListener('close', () => {
      if (ws !== this.ws) return;
      this.ws = null;
      clearTimeout(this.good);
      if (!this.wanted) return;
      const wait = this.delay * (0.8 + 0.4 * Math.random());
      this.delay = Math.min(this.delay * 2, LONGEST_MS);
      this.timer = window.setTimeout(() => this.connect(), wait);
      this.set('waiting', Date.now() + wait);
    });
  }

  /** @param {SocketState['state']} state @param {number} [retryAt] */
  set(state, retryAt = 0) {
    this.state = { state, retryAt };
    this.handlers.state?.(this.state);
  }
}
