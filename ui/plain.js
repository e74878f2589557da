// Text of tools and strangers must be seen as it is: what would hide or reorder it is named instead of drawn.

/** Controls, and characters without a shape of their own: they turn the direction of writing, or hide. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
const ESCAPE = String.fromCharCode(27);
const BELL = String.fromCharCode(7);
/** Colours, cursor movements and titles that programs write for a terminal. */
const TERMINAL = new RegExp(`${ESCAPE}\\[[0-?]*[ -/]*[@-~]|${ESCAPE}\\][^${BELL}${ESCAPE}]*(?:${BELL}|${ESCAPE}\\\\)?|${ESCAPE}[@-Z\\\\^_]`, 'g');

/** Every character can be seen. @param {string} text */
export function visible(text) {
  return text.replace(HIDDEN, (c) => (c === '\n' || c === '\t' ? c : `⟨U+${(c.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}⟩`));
}

/** The same for what a program put out: without what was meant for its terminal. @param {string} text */
export function output(text) {
  return visible(text.replace(TERMINAL, '').replaceAll('\r\n', '\n'));
}

/** A value of JSON as a person reads it: texts as they are, the rest as JSON. @param {unknown} value */
export function shown(value) {
  return visible(typeof value === 'string' ? value : JSON.stringify(value, null, 1) ?? '');
}

/** All arguments in one line. @param {unknown} args */
export function oneLine(args) {
  const values = args && typeof args === 'object' ? Object.values(args) : [];
  return visible(values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(' ')).replace(/\s+/g, ' ').slice(0, 200);
}

/** What the classes of docs/tools.md mean to a person. @type {Record<string, string>} */
export const CLASSES = {
  read: 'only looks',
  local: 'in the sandbox',
  change: 'changes something',
  fleet: 'cannot be undone',
  denied: 'never allowed',
};
