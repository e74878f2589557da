// The message box: Enter sends, Shift+Enter breaks the line, arrow up brings back what was sent before.
import { byId, prefs } from './dom.js';

const KEPT = 50;

export class Composer {
  /**
   * @param {(text: string) => Promise<boolean>} send false: not taken, the text stays in the box
   * @param {() => void} changed what the box holds has changed
   */
  constructor(send, changed) {
    this.onChanged = changed;
    this.input = /** @type {HTMLTextAreaElement} */ (byId('message-input'));
    this.button = /** @type {HTMLButtonElement} */ (byId('send-button'));
    this.send = send;
    /** @type {string[]} */
    this.history = JSON.parse(prefs.get('sent') ?? '[]');
    this.at = this.history.length;
    this.draft = '';
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      void this.submit();
    });
    this.input.addEventListener('input', () => this.changed());
    this.input.addEventListener('keydown', (event) => this.key(event));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    // isComposing: Enter that ends an input method's choice is not a send.
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      void this.submit();
    } else if (event.key === 'ArrowUp' && !event.shiftKey && this.onFirstLine()) {
      if (this.recall(-1)) event.preventDefault();
    } else if (event.key === 'ArrowDown' && !event.shiftKey && this.onLastLine()) {
      if (this.recall(1)) event.preventDefault();
    }
  }

  onFirstLine() {
    return !this.input.value.slice(0, this.input.selectionStart).includes('\n');
  }

  onLastLine() {
    return !this.input.value.slice(this.input.selectionEnd).includes('\n');
  }

  /** @param {number} step */
  recall(step) {
    const next = this.at + step;
    if (next < 0 || next > this.history.length) return false;
    if (this.at === this.history.length) this.draft = this.input.value;
    this.at = next;
    this.set(next === this.history.length ? this.draft : this.history[next]);
    return true;
  }

  /** @param {string} text */
  set(text) {
    this.input.value = text;
    this.input.setSelectionRange(text.length, text.length);
    this.changed();
  }

  changed() {
    this.button.disabled = !this.input.value.trim();
    this.input.style.height = 'auto';
    this.input.style.height = `${Math.min(this.input.scrollHeight, 200)}px`;
    this.onChanged();
  }

  async submit() {
    const text = this.input.value.trim();
    if (!text) return;
    this.set('');
    if (this.history.at(-1) !== text) this.history.push(text);
    this.history = this.history.slice(-KEPT);
    this.at = this.history.length;
    this.draft = '';
    prefs.set('sent', JSON.stringify(this.history));
    if (!(await this.send(text)) && !this.input.value) this.set(text);
  }
}
