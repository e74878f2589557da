// What this page saw acknowledged, so that after the agent has moved to another node the turns that were lost are a count.
import { toast } from './dom.js';
import { visible } from './plain.js';

/** @typedef {{epoch: number, turns: number}} Seen */

export class Kept {
  /** @param {(message: object) => void} send */
  constructor(send) {
    this.send = send;
    /** @type {Seen|null} */
    this.seen = null;
  }

  /** A hello or saved of the server. @param {{epoch?: number, turns?: number, node?: string, taken_turns?: number}} event */
  heard(event) {
    // Without copies on other nodes there is no takeover.
    if (typeof event.epoch !== 'number' || typeof event.turns !== 'number') return;
    const before = this.seen;
    if (before && event.epoch > before.epoch) this.moved(before, event.epoch, event.taken_turns ?? event.turns, visible(event.node ?? 'another node'));
    this.seen = { epoch: event.epoch, turns: event.turns };
  }

  /** @param {Seen} before @param {number} epoch @param {number} had @param {string} node */
  moved(before, epoch, had, node) {
    if (epoch === before.epoch + 1) this.send({ type: 'seen', ...before });
    const lost = Math.max(0, before.turns - had);
    if (lost) toast(`Choir runs on ${node} now. The last ${lost === 1 ? 'turn is' : `${lost} turns are`} lost: say ${lost === 1 ? 'it' : 'them'} again.`, 'error');
    else toast(`Choir runs on ${node} now. Nothing that was said is lost.`);
  }
}
